import base64
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from atelier.webhooks.signing import (
    WebhookSecretUnusable,
    checked_secret,
    new_secret,
    signed_headers,
)

BODY = '{"type":"job.succeeded","data":{"prompt":"größe 图"}}'.encode()


def test_signature_is_that_of_the_rules_own_example():
    # From the Standard Webhooks specification.
    headers = signed_headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_receiver_can_verify_with_the_library():
    secret = new_secret(lambda count: bytes(range(count)))
    headers = dict(signed_headers(secret, "1", int(time.time()), BODY))
    assert Webhook(secret).verify(BODY, headers)["type"] == "job.succeeded"
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + b" ", headers)


def test_new_secret_has_32_random_bytes():
    secret = new_secret(lambda count: b"\x07" * count)
    assert secret.startswith("whsec_")
    assert base64.b64decode(secret.removeprefix("whsec_")) == b"\x07" * 32
    assert checked_secret(secret) == secret


@pytest.mark.parametrize("length", [24, 64])
def test_secret_may_come_without_prefix_or_padding(length):
    plain = base64.b64encode(bytes(length)).decode()
    for secret in (plain, plain.rstrip("="), f"whsec_{plain}", f" whsec_{plain}\n"):
        assert checked_secret(secret) == secret.strip()


@pytest.mark.parametrize(
    "secret",
    [
        "hunter2!",  # no base64
        "whsec_",
        base64.b64encode(bytes(23)).decode(),
        base64.b64encode(bytes(65)).decode(),
    ],
)
def test_secret_that_receivers_could_not_use_is_refused(secret):
    with pytest.raises(WebhookSecretUnusable) as caught:
        checked_secret(secret)
    assert "ATELIER_WEBHOOK_SECRET" in caught.value.hint
    assert secret not in caught.value.message or not secret
