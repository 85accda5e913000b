"""What ends a demo early.

DemoError                   something did not come up, or is gone; the message is for the user
└── StepFailed              a step of the walk got an answer that it must not get
"""


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


class StepFailed(DemoError):
    """What came back is not what the step promises."""
