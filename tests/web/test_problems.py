import logging

from covidmm.web.problems import CLIENT_LEFT, MEDIA_TYPE, ProblemError, log_fault, responses


def test_a_problem_has_the_members_of_its_media_type():
    answer = ProblemError(503, "Busy.", {"Retry-After": "3"}).response()
    assert (answer.status_code, answer.media_type, answer.headers["retry-after"]) == (503, MEDIA_TYPE, "3")
    assert answer.body == b'{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"Busy."}'
    assert ProblemError(CLIENT_LEFT, "Gone.").response().status_code == 499


def test_a_fault_is_logged_by_kind_and_place_alone(caplog):
    try:
        raise ValueError("DOE^JANE")
    except ValueError as error:
        with caplog.at_level(logging.ERROR):
            log_fault(error)
    assert "ValueError at test_problems.py:" in caplog.text
    assert "DOE" not in caplog.text


def test_every_answer_of_the_document_has_a_schema():
    found = responses(413, 422)
    assert found.keys() == {413, 422}
    assert MEDIA_TYPE in found[413]["content"]
