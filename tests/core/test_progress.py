import pytest

from lmdbench.core import progress


def test_plain_lines_of_preparing_tell_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    lines = progress.Lines()
    for seconds, done in ((0, 10), (5, 60), (15, 160), (30, 310), (40, 400)):
        now = 100.0 + seconds
        lines.prepare(done, 400, "isic2019 at 64 px")
    lines.prepare(1, 50, "isic2019 at 224 px")
    assert capsys.readouterr().err.splitlines() == [
        "isic2019 at 64 px: 2 %",
        "isic2019 at 64 px: 40 %  0:24 left",  # 240 images at 10 a second
        "isic2019 at 64 px: 77 %  0:09 left",
        "isic2019 at 64 px: 100 %",
        "isic2019 at 224 px: 2 %",
    ]
