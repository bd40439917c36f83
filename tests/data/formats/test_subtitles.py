import pandas as pd

from tal_core.data.formats.subtitles import to_srt, to_vtt

TABLE = pd.DataFrame(
    [
        ("v", 3661.5, 3662.0404, "high jump", 0.876),
        ("v", -1.0, 2.0, "a <b> & c\n\nd --> e", 0.5),
        ("v", 5.0, 5.0, "", 0.1),
    ],
    columns=["video_id", "start", "end", "label", "score"],
)


def test_webvtt():
    assert to_vtt(TABLE) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:02.000\na &lt;b&gt; &amp; c d → e 0.50\n\n"
        "00:00:05.000 --> 00:00:05.001\naction 0.10\n\n"
        "01:01:01.500 --> 01:01:02.040\nhigh jump 0.88\n"
    )


def test_srt():
    assert to_srt(TABLE) == (
        "1\n00:00:00,000 --> 00:00:02,000\na <b> & c d → e 0.50\n\n"
        "2\n00:00:05,000 --> 00:00:05,001\naction 0.10\n\n"
        "3\n01:01:01,500 --> 01:01:02,040\nhigh jump 0.88\n"
    )


def test_without_detections():
    assert to_vtt(TABLE.iloc[:0]) == "WEBVTT\n\n" and to_srt(TABLE.iloc[:0]) == ""
