"""Messages of others within sentences of ours."""


def sentence(said: object) -> str:
    """Return a message as one line that ends with a full stop, so that another sentence can follow."""
    line = " ".join(str(said).split())
    return line if line.endswith((".", "!", "?")) else f"{line}."
