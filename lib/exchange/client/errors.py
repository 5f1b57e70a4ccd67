"""What can go wrong between a client and the exchange; every error of this package is a `ClientError`."""

from exchange.core.admin_messages import Refused
from exchange.core.messages import Reject


class ClientError(Exception):
    """Something that the caller may want to handle; the text is fit to be shown to a user."""


class Rejected(ClientError):
    """The exchange refused the request: nothing was journaled or changed.

    `reason` is one of the protocol's reasons, `text` says what was wrong, with the value and the rule.
    """

    def __init__(self, reject: Reject) -> None:
        super().__init__(f"{reject.reason}: {reject.text}")
        self.reject = reject
        self.reason = reject.reason
        self.text = reject.text


class ActRefused(ClientError):
    """The order handler refused an operator's act: nothing was done. `reason` and `text` say why."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(f"{refused.reason}: {refused.text}")
        self.refused = refused
        self.reason = refused.reason
        self.text = refused.text


class Failed(ClientError):
    """Something could not be done, or not be done to its end; the text says what, and what to do about it."""


class Unreachable(ClientError):
    """No answer within the deadline. The request may have been carried out; sending it again is safe by its id."""

    def __init__(self, endpoint: str, seconds: float) -> None:
        super().__init__(f"no answer from {endpoint} within {seconds:.3g} s; is the exchange running there?")
        self.endpoint = endpoint
        self.seconds = seconds


class LostMessages(ClientError):
    """Messages of a topic are past the exchange's retention: `first` was asked for, `earliest` is the first left."""

    def __init__(self, topic: str, first: int, earliest: int) -> None:
        super().__init__(
            f"{topic}: messages {first} to {earliest - 1} are no longer kept; the first one left is {earliest}"
        )
        self.topic = topic
        self.first = first
        self.earliest = earliest


class ProtocolError(ClientError):
    """The other side sent what the protocol does not allow; the text says what."""
