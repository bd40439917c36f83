"""Files of annotation tools: ELAN, VIA, Label Studio. What can't be used is counted and named."""

import json
from pathlib import Path

import numpy as np
import pytest

from tal_core.cli import main
from tal_core.data.dataset.registry import add_dataset
from tal_core.data.formats.annotation_tools import video_of
from tal_core.data.formats.annotations import list_tiers, read_annotations
from tal_core.types import InputError

EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2025-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0">
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">{media}</HEADER>
<TIME_ORDER>
<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="2500"/>
<TIME_SLOT TIME_SLOT_ID="ts3"/><TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="4000"/>
</TIME_ORDER>
{tiers}
</ANNOTATION_DOCUMENT>"""
FILM = '<MEDIA_DESCRIPTOR MEDIA_URL="{url}" MIME_TYPE="{mime}" {more}/>'


def aligned(text: str, first: int = 1, last: int = 2) -> str:
    return (
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{first}{last}" TIME_SLOT_REF1="ts{first}" '
        f'TIME_SLOT_REF2="ts{last}"><ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>'
    )


def tier(name: str, *annotations: str) -> str:
    return f'<TIER LINGUISTIC_TYPE_REF="default" TIER_ID="{name}">{"".join(annotations)}</TIER>'


REFERENCE = (
    '<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="r" ANNOTATION_REF="a12"><ANNOTATION_VALUE>note'
    "</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
)


def write_eaf(path: Path, *tiers: str, media: str = "") -> Path:
    path.write_text(EAF.format(media=media, tiers="\n".join(tiers)), encoding="utf-8")
    return path


def kinds(annotations) -> dict[str, int]:
    return annotations.findings["kind"].value_counts().to_dict()


def rows(annotations) -> list[tuple]:
    return list(annotations.ground_truth.itertuples(index=False, name=None))


# --- ELAN ---------------------------------------------------------------------------------------------


def test_elan_times_tiers_and_what_has_no_time(tmp_path):
    media = FILM.format(url="file:///C:/films/a%20b.wav", mime="audio/x-wav", more="")
    media += FILM.format(url="file:///C:/films/kitchen%201.mp4", mime="video/mp4", more="")
    film = write_eaf(
        tmp_path / "x.eaf",
        tier(
            "act", aligned("pour"), aligned("stir", 3, 4), aligned("stir &amp; mix", 2, 4), aligned("", 2, 4)
        ),
        tier("jump", aligned(""), aligned("", 2, 4)),
        tier("notes", REFERENCE),
        media=media,
    )
    found = read_annotations(film)
    assert rows(found) == [
        ("kitchen 1", 1.0, 2.5, "pour"),
        ("kitchen 1", 2.5, 4.0, "stir & mix"),
        ("kitchen 1", 1.0, 2.5, "jump"),
        ("kitchen 1", 2.5, 4.0, "jump"),
    ]
    details = found.findings.set_index("kind")["detail"]
    left_out = details["left out"].tolist()
    assert any(text.startswith("2 entries are left out: they have no time") for text in left_out), left_out
    assert any(text.startswith("1 entry is left out: their text is empty") for text in left_out), left_out
    assert "act (2), jump (2)" in details["tiers"]
    assert list_tiers(film) == {"act": 2, "jump": 2}
    assert rows(read_annotations(film, tiers=["act"])) == rows(found)[:2]
    with pytest.raises(InputError, match=r"no tier 'acts'.*'act', 'jump'"):
        read_annotations(film, tiers=["acts"])


def test_elan_offset_and_name_of_the_file(tmp_path):
    shifted = FILM.format(url="../v1.mp4", mime="video/mp4", more='TIME_ORIGIN="500"')
    found = read_annotations(write_eaf(tmp_path / "x.eaf", tier("act", aligned("pour")), media=shifted))
    assert rows(found) == [("v1", 1.5, 3.0, "pour")]
    assert kinds(found)["time origin"] == 1
    nameless = read_annotations(write_eaf(tmp_path / "y.eaf", tier("act", aligned("pour"))))
    assert rows(nameless) == [("y", 1.0, 2.5, "pour")]
    assert kinds(nameless)["video"] == 1


def test_a_folder_of_elan_files_is_a_dataset(tmp_path, home):
    labels, features = tmp_path / "labels", tmp_path / "features"
    labels.mkdir()
    features.mkdir()
    for number in range(4):
        write_eaf(labels / f"v{number}.eaf", tier("act", aligned("pour"), aligned("stir", 2, 4)))
        np.save(features / f"v{number}.npy", np.zeros((10 + number, 3), np.float32))
    write_eaf(
        labels / "again.eaf", tier("act", aligned("pour")), media=FILM.format(url="v1.mp4", mime="", more="")
    )
    found = read_annotations(labels)
    assert len(found.ground_truth) == 9
    assert {"video twice", "duplicate"} <= set(kinds(found))
    entry = add_dataset(
        home, "eaf", annotations=labels, features=features, snippet_seconds=0.5, tiers=["act"]
    )
    assert entry.tiers == ["act"]
    arguments = ["datasets", "add", "second", "--annotations", str(labels), "--features", str(features)]
    assert main([*arguments, "--snippet-seconds", "0.5", "--tiers", "act"]) == 0
    assert main([*arguments, "--snippet-seconds", "0.5", "--tiers", "none", "--replace"]) == 2


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("<ANNOTATION_DOCUMENT><TIME_ORDER>", "not complete XML"),
        ("<html></html>", "not an ELAN file"),
        ('<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>', "document type"),
        ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><x>&a;</x>', "document type"),
        (EAF.format(media="", tiers=tier("act", aligned("pour", 4, 1))), "ends before it starts"),
        (EAF.format(media="", tiers="").replace("milliseconds", "PAL-frames"), "PAL-frames"),
        (EAF.format(media="", tiers="").replace('"1000"', '"soon"'), "not a number"),
        (EAF.format(media="", tiers=tier("act", REFERENCE)), "no annotated segment"),
    ],
)
def test_faulty_elan_files_are_refused(tmp_path, text, what):
    (tmp_path / "x.eaf").write_text(text)
    with pytest.raises(InputError, match=what):
        read_annotations(tmp_path / "x.eaf")


# --- VIA ----------------------------------------------------------------------------------------------


def via_project() -> dict:
    def entry(view, z, av, xy=()):
        return {"vid": view, "flg": 0, "z": z, "xy": list(xy), "av": av}

    options = {"0": "pour", "1": "stir"}
    return {
        "project": {"pid": "__VIA_PROJECT_ID__", "pname": "x", "vid_list": ["1", "2", "3"]},
        "config": {},
        "attribute": {
            "1": {"aname": "action", "anchor_id": "FILE1_Z2_XY0", "type": 4, "options": options},
            "2": {"aname": "note", "anchor_id": "FILE1_Z2_XY0", "type": 1, "options": {}},
            "3": {"aname": "both", "anchor_id": "FILE1_Z2_XY0", "type": 2, "options": options},
        },
        "file": {
            "1": {"fid": "1", "fname": "v1.mp4", "type": 4, "loc": 1, "src": ""},
            "2": {
                "fid": "2",
                "fname": "",
                "type": 4,
                "loc": 2,
                "src": "https://example.org/films/v2.webm?x=1",
            },
            "3": {"fid": "3", "fname": "still.jpg", "type": 2, "loc": 1, "src": ""},
        },
        "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}, "3": {"fid_list": ["3"]}},
        "metadata": {
            "1_a": entry("1", [1.0, 2.5], {"1": "0"}),
            "1_b": entry("1", [2.5, 4.0], {"1": "1", "2": "slowly"}),
            "2_c": entry("2", [0.5, 1.5], {"3": "0,1"}),
            "2_d": entry("2", [3.0], {"1": "0"}, [2, 1, 1, 5, 5]),
            "2_e": entry("2", [3.0, 4.0], {}),
            "3_f": entry("3", [], {"1": "0"}),
        },
    }


def test_via_project_resolves_options_and_counts_the_rest(tmp_path):
    path = tmp_path / "via.json"
    path.write_text(json.dumps(via_project()))
    found = read_annotations(path)
    assert rows(found) == [
        ("v1", 1.0, 2.5, "pour"),
        ("v1", 2.5, 4.0, "stir"),
        ("v1", 2.5, 4.0, "slowly"),
        ("v2", 0.5, 1.5, "pour"),
        ("v2", 0.5, 1.5, "stir"),
    ]
    texts = found.findings["detail"].tolist()
    for said in ("1 of 3 views show no video", "no temporal segments", "they have no label", "action (2)"):
        assert any(said in text for text in texts), (said, texts)
    assert rows(read_annotations(path, tiers=["action"])) == rows(found)[:2]
    broken = via_project()
    broken["metadata"]["1_a"].pop("z")
    path.write_text(json.dumps(broken))
    with pytest.raises(InputError, match="not a sound VIA project"):
        read_annotations(path)


def via_csv(header: str, lines: list[str], attribute: object) -> str:
    head = [
        "# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)",
        "# ATTRIBUTE = " + json.dumps(attribute),
        "# CSV_HEADER = " + header,
    ]
    return "\n".join([*head, *lines])


def test_via_csv_in_its_two_forms(tmp_path):
    path = tmp_path / "via.csv"
    attribute = via_project()["attribute"]
    lines = [
        '"1_a","[""v1.mp4""]",0,"[1.0,2.5]","[]","{""1"":""0""}"',
        '"1_b","[""v1.mp4""]",0,"[2.5]","[2,1,1,5,5]","{""1"":""1""}"',
        '"2_c","[""v2.mp4""]",0,"[0.5,1.5]","[]","{""2"":""a, b""}"',
    ]
    header = "metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata"
    path.write_text(via_csv(header, lines, attribute))
    assert rows(read_annotations(path)) == [("v1", 1.0, 2.5, "pour"), ("v2", 0.5, 1.5, "a, b")]
    header = "metadata_id, file_list, temporal_segment_start, temporal_segment_end, metadata"
    lines = ['"1_a","[""v1.mp4""]",1.0,2.5,"{""TEMPORAL-SEGMENTS"":""pour""}"']
    path.write_text(via_csv(header, lines, {"1": "TEMPORAL-SEGMENTS"}))
    assert rows(read_annotations(path)) == [("v1", 1.0, 2.5, "pour")]
    path.write_text(via_csv(header, ['"1_a","v1.mp4",1,2,"{}"'], {}))
    with pytest.raises(InputError, match="line 4 is not an entry"):
        read_annotations(path)


# --- Label Studio -------------------------------------------------------------------------------------


def region(kind: str, value: dict, control: str = "actions", **more) -> dict:
    return {"id": "r", "from_name": control, "to_name": "video", "type": kind, "value": value, **more}


def frames(first: int, last: int, *labels: str) -> dict:
    return region(
        "timelinelabels", {"ranges": [{"start": first, "end": last}], "timelinelabels": list(labels)}
    )


def task(video: str, *regions: dict, more_annotations=(), **data) -> dict:
    annotation = {"id": 1, "was_cancelled": False, "updated_at": "2025-01-02", "result": list(regions)}
    return {"id": 1, "data": {"video": video, **data}, "annotations": [annotation, *more_annotations]}


def read_tasks(folder: Path, *tasks: dict, video_info: Path | None = None):
    path = folder / "export.json"
    path.write_text(json.dumps(list(tasks)))
    return read_annotations(path, video_info)


def test_label_studio_frames_become_seconds(tmp_path):
    boxes = {"framesCount": 300, "duration": 10.0, "sequence": [], "labels": ["ball"]}
    found = read_tasks(
        tmp_path,
        task("/data/upload/1/0a1b2c3d-v1.mp4", frames(25, 48, "pour", "stir"), frames(1, 1, "stir"), fps=24),
        task("/data/local-files/?d=films/v2.mp4", frames(31, 60, "pour"), region("videorectangle", boxes)),
        task("s3://bucket/v3.mp4", frames(25, 48, "pour"), split="training"),
    )
    assert rows(found) == [
        ("v1", 1.0, 2.0, "pour"),
        ("v1", 1.0, 2.0, "stir"),
        ("v1", 0.0, pytest.approx(1 / 24), "stir"),
        ("v2", 1.0, 2.0, "pour"),
        ("v3", 1.0, 2.0, "pour"),
    ]
    assert found.videos["duration"].tolist()[1] == 10.0
    assert found.videos["subset"].tolist() == ["", "", "training"]
    texts = found.findings["detail"].tolist()
    assert any("1 regions of type videorectangle are left out" in text for text in texts), texts
    assert any("frame rate of 1 labelled timelines isn't known (first: v3)" in text for text in texts), texts
    info = tmp_path / "info.csv"
    info.write_text("video_id,fps\nv3,12\n")
    known = read_tasks(tmp_path, task("s3://bucket/v3.mp4", frames(25, 48, "pour")), video_info=info)
    assert rows(known) == [("v3", 2.0, 4.0, "pour")]
    assert "frame rate" not in kinds(known)


def test_label_studio_takes_one_annotation_of_a_task(tmp_path):
    old = {"updated_at": "2025-01-01", "result": [frames(1, 24, "old")]}
    chosen = {**old, "ground_truth": True, "result": [frames(1, 24, "chosen")]}
    cancelled = {"was_cancelled": True, "updated_at": "2025-02-01", "result": [frames(1, 24, "no")]}
    latest = read_tasks(tmp_path, task("v1.mp4", frames(1, 24, "new"), more_annotations=[old, cancelled]))
    assert latest.labels == ["new"]
    assert kinds(latest)["several annotations"] == 1
    marked = read_tasks(tmp_path, task("v1.mp4", frames(1, 24, "new"), more_annotations=[chosen]))
    assert marked.labels == ["chosen"]


def test_label_studio_audio_and_odd_regions(tmp_path):
    phantom = region("timelinelabels", {"sequence": [], "framesCount": 240, "duration": 10.0})
    found = read_tasks(
        tmp_path,
        task(
            "v1.mp4",
            region("labels", {"start": 1.5, "end": 3.0, "labels": ["pour"]}, original_length=20.0),
            region("timeserieslabels", {"start": 4, "end": 25, "timeserieslabels": ["stir"]}),
            region("labels", {"start": 0, "end": 9, "text": "words", "labels": ["noun"]}),
            region("timelinelabels", {"ranges": [{"start": 1, "end": 24}], "timelinelabels": []}),
            phantom,
            region("choices", {"choices": ["good"]}),
        ),
    )
    assert rows(found) == [("v1", 1.5, 3.0, "pour"), ("v1", 4.0, 25.0, "stir")]
    assert kinds(found)["left out"] == 4  # text, choices, one without range, one without label
    assert kinds(found)["beyond the end"] == 1


@pytest.mark.parametrize(
    ("tasks", "what"),
    [
        ([{"data": {}, "annotations": []}], "task 1 names no video"),
        ([{"data": {"video": "v.mp4"}, "annotations": [{"result": "x"}]}], "annotations are damaged"),
        ([task("v.mp4", frames("a", 2, "x"))], "start of a range is 'a'"),
        (
            [task("v.mp4", region("timelinelabels", {"ranges": 5, "timelinelabels": ["x"]}))],
            "ranges are damaged",
        ),
        ([task("v.mp4")], "no annotated segment"),
        ([{"video": "v.mp4", "actions": []}], "not JSON-MIN"),
    ],
)
def test_faulty_label_studio_files_are_refused(tmp_path, tasks, what):
    with pytest.raises(InputError, match=what):
        read_tasks(tmp_path, *tasks)


# --- common -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("media", "video"),
    [
        ("file:///media/My%20Film.MP4", "My Film"),
        (r"C:\films\a.b.mp4", "a.b"),
        ("film 100%.mp4", "film 100%"),
        ("https://example.org/x/clip.webm?token=1.2", "clip"),
        ("/data/local-files/?d=films%2Fv2.mp4", "v2"),
        ("v_abc", "v_abc"),
        ("", ""),
    ],
)
def test_video_ids_from_paths_and_addresses(media, video):
    assert video_of(media) == video


def test_nearly_equal_segments_are_reported(tmp_path):
    labels = tmp_path / "x.csv"
    labels.write_text("video_id,start,end,label\nv,0,10,a\nv,0.2,10,a\nv,0.2,10,b\nv,20,30,a\nw,0,10,a\n")
    found = read_annotations(labels).findings
    assert found.loc[found["kind"] == "overlap", "detail"].tolist() == [
        "1 annotation nearly the same as the one before (first: a, 0.2 to 10 s)"
    ]


def test_evaluate_reads_them_too(tmp_path, capsys):
    truth = write_eaf(tmp_path / "v1.eaf", tier("act", aligned("pour")))
    detections = tmp_path / "d.json"
    found = {"segment": [1.0, 2.5], "label": "pour", "score": 0.9}
    detections.write_text(json.dumps({"results": {"v1": [found]}}))
    assert main(["evaluate", "--ground-truth", str(truth), "--detections", str(detections)]) == 0
    assert "100" in capsys.readouterr().out
