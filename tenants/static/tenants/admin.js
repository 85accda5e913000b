// Progress of a run, and forms that are sent once. Every page works without this file.
//
// <section data-progress-url="/…/progress.json">
//   <progress data-progress-bar value="3" max="9"></progress>
//   <span data-progress="done">3</span>
//   <p data-progress-error hidden>The progress cannot be read now. It is asked for again.</p>
// </section>
//
// The URL answers {"value": 3, "max": 9, "finished": false, "fields": {"done": "3"}}. The texts replace those
// of the elements. When the run is finished, the page is loaded again, once.
"use strict";

(function () {
  const INTERVAL = 2000;
  const MAX_INTERVAL = 30000;

  function show(section, progress) {
    for (const bar of section.querySelectorAll("[data-progress-bar]")) {
      bar.max = Math.max(progress.max, 1);
      bar.value = progress.value;
    }
    for (const element of section.querySelectorAll("[data-progress]")) {
      const text = progress.fields[element.dataset.progress];
      if (text !== undefined) {
        element.textContent = text;
      }
    }
  }

  function follow(section) {
    const notice = section.querySelector("[data-progress-error]");
    let interval = INTERVAL;
    let timer = null;

    function later() {
      clearTimeout(timer);
      timer = document.hidden ? null : setTimeout(ask, interval);
    }

    async function ask() {
      timer = null;
      try {
        const response = await fetch(section.dataset.progressUrl, {
          credentials: "same-origin",
          headers: { Accept: "application/json" },
        });
        if (!response.ok || response.redirected) {
          throw new Error(String(response.status));
        }
        const progress = await response.json();
        show(section, progress);
        interval = INTERVAL;
        if (notice) {
          notice.hidden = true;
        }
        if (progress.finished) {
          window.location.reload();
          return;
        }
      } catch {
        interval = Math.min(interval * 2, MAX_INTERVAL);
        if (notice) {
          notice.hidden = false;
        }
      }
      later();
    }

    document.addEventListener("visibilitychange", function () {
      if (!document.hidden && timer === null) {
        ask();
      }
    });
    later();
  }

  // A second click while Clerk is asked would send the form again. The button's name stays in the form.
  function sendOnce(form) {
    form.addEventListener("submit", function (event) {
      if (form.dataset.sent) {
        event.preventDefault();
      }
      form.dataset.sent = "true";
    });
    window.addEventListener("pageshow", function () {
      delete form.dataset.sent;
    });
  }

  // Unfold's own listener fails without the text field that Unfold's widget has beside a file input.
  document.addEventListener(
    "change",
    function (event) {
      if (event.target.matches(".tenants-page input[type=file]")) {
        event.stopPropagation();
      }
    },
    true,
  );

  document.querySelectorAll("[data-progress-url]").forEach(follow);
  document.querySelectorAll("form[data-send-once]").forEach(sendOnce);
})();
