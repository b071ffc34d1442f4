import pytest

from oihedge.core import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [(errors.OihedgeError, 1), (errors.ConfigError, 2), (errors.DataError, 3), (errors.SchemaError, 3),
     (errors.VenueError, 1), (errors.ModelError, 1), (errors.BusyError, 1), (errors.GateHeld, 4)],
)  # fmt: skip
def test_each_error_ends_the_command_with_its_code(error, code) -> None:
    assert error("x").exit_code == code
    assert issubclass(error, errors.OihedgeError)


def test_an_error_is_one_line_that_names_what_was_expected_what_came_and_what_to_do() -> None:
    error = errors.DataError("rows are\n odd", expected="even ones", got="3", do="look at the file")
    assert str(error) == "rows are odd; expected even ones; got 3; look at the file"
