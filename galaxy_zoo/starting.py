"""What a script does before all else."""

import signal


def end_at_ctrl_c() -> None:
    """Let Ctrl-C end the process at once, without a traceback, until its command begins (see `console.Command`).

    For the seconds in which torch is imported. Where a shell has Ctrl-C ignored, that stays.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
