import pytest

from oihedge.core.hashing import canonical_json, code_version, digest


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_nan_has_no_canonical_form() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})


def test_the_code_version_carries_the_release_and_the_source() -> None:
    release, source = code_version("1.2.3").split("+")
    assert release == "1.2.3"
    assert len(source) == 12
