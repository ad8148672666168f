"""What the doctor asked."""


def posts(emulator):
    """The questions that *emulator* was asked."""
    return [request for request in emulator.log if request.method == "POST"]
