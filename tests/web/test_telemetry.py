import logging

from prometheus_client.parser import text_string_to_metric_families


def values(client):
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


def test_prometheus_reads_the_numbers(client, files, as_form):
    client.post("/api/v1/predict", files=as_form(*files[:2]))
    client.post("/api/v1/predict", files=as_form(b"x"))
    client.get("/unknown/address")
    found = values(client)
    assert found["covidmm_requests_total", "/api/v1/predict", "200"] == 1
    assert found["covidmm_requests_total", "/api/v1/predict", "422"] == 1
    assert found["covidmm_requests_total", "404", "unknown"] == 1
    assert found["covidmm_images_total",] == 2
    assert found["covidmm_stage_seconds_count", "decode"] == 2
    assert found["covidmm_stage_seconds_count", "predict"] == 1
    assert found["covidmm_queue_pending", "predict"] == 0
    assert found["covidmm_queue_size", "predict"] == 2
    assert found["process_resident_memory_bytes",] > 1e7


def test_addresses_that_a_client_makes_up_make_no_series_and_no_log_line(client, caplog):
    with caplog.at_level(logging.INFO, "covidmm.web"):
        for number in range(5):
            client.request("MADEUP", f"/DOE^JANE{number}")
    assert sum(key[0] == "covidmm_requests_total" for key in values(client)) <= 2
    lines = [record.getMessage() for record in caplog.records if record.name == "covidmm.web"]
    assert len(lines) == 5
    assert all(line.startswith("other unknown 40") for line in lines)


def test_a_browser_is_told_to_keep_and_load_nothing(client):
    headers = client.get("/api/v1/models").headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in headers["content-security-policy"]
