"""What must not be written down is taken out of every text that leaves."""

import pickle

import pytest

from runstore import credentials
from runstore.credentials import Options, learn, learn_environment, learn_options, redacted


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_known", [])


def test_what_was_learned_is_not_shown() -> None:
    """A secret, in its own form and in that of a URL, becomes ***; of two that overlap nothing is left."""
    learn("hunter2/hunter2+", "hunter2")
    assert redacted("a hunter2/hunter2+ b hunter2%2Fhunter2%2B c hunter2") == "a *** b *** c ***"


def test_short_and_empty_ones_take_no_word_apart() -> None:
    """Three letters are no secret that could be taken out of a text."""
    learn("abc", "", None)
    assert redacted("abcdef") == "abcdef"


def test_options_that_sound_like_credentials_are_learned() -> None:
    """At any depth; the name of an endpoint, a region and an author are none."""
    learn_options(
        {
            "secret": "sesame-1",
            "client_kwargs": {"aws_session_token": "sesame-2", "region_name": "us-east-1"},
            "endpoint_url": "http://127.0.0.1:9000",
            "author": "somebody",
            "anon": False,
        }
    )
    assert redacted("sesame-1 sesame-2") == "*** ***"
    kept = "us-east-1 http://127.0.0.1:9000 somebody"
    assert redacted(kept) == kept


def test_the_environment_of_s3_is_learned() -> None:
    """Keys of S3 in the environment are credentials."""
    learn_environment({"AWS_SECRET_ACCESS_KEY": "sesame-3", "AWS_REGION": "eu-west-1"})
    assert redacted("sesame-3 in eu-west-1") == "*** in eu-west-1"


def test_options_neither_show_nor_pickle() -> None:
    """A repr and a pickle of options hold none of them."""
    options = Options(secret="sesame-4")
    assert "sesame" not in f"{options!r}{options}{[options]}"
    with pytest.raises(TypeError, match="are not pickled"):
        pickle.dumps(options)
