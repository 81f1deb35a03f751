"""The server on the corpus of bad radiographs."""

from tests.corpus.entries import entries


def test_every_bad_file_is_an_answer_and_the_server_lives(client, as_form, files):
    wrong = {}
    for entry in entries():
        if entry.content is None:
            continue  # no file of bytes can be uploaded as such
        answer = client.post("/api/v1/predict?detector=yolo", files=as_form(entry.content))
        # what is larger than an upload may be is refused for that
        expected = {200} if entry.expected is None else {422, 413}
        if answer.status_code not in expected:
            wrong[entry.name] = (answer.status_code, answer.text[:200])
    assert wrong == {}
    assert client.post("/api/v1/predict?detector=yolo", files=as_form(files[0])).status_code == 200
