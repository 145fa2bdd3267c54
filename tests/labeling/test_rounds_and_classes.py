"""Bursts, near-copies, new classes and images of no class, through the rounds of a project."""

import hashlib
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from fkal.errors import ConfigError
from fkal.labeling.label_store import LabelRow, LabelStore, now
from fkal.labeling.learner import grown
from fkal.labeling.listing import ListedImage, write_listing
from fkal.labeling.rounds import SelectOptions, audit, cancel, next_, select, train
from fkal.labeling.status import status
from fkal.labeling.trainings import read_round, trainings


def track(i: int) -> str:
    return f"track {i // 4}"


def groups_of(project, batch) -> list[str]:
    rows = project.pool.positions([image.digest for image in batch.images])
    return [project.pool.groups[row] for row in rows]


@pytest.mark.parametrize("method", ["fisher_coverage", "random"])
def test_a_batch_has_one_image_per_track_until_the_tracks_run_out(signs, method):
    made = signs(groups=track)
    first = select(made.project, SelectOptions(n=8, method=method)).batch
    made.answer(first)
    _, second = next_(made.again(), SelectOptions(n=8, method=method))
    seen = groups_of(made.project, first)
    assert len(set(seen)) == 8
    again = Counter(seen + groups_of(made.project, second.batch))
    assert set(again.values()) == {1, 2} and len(again) == 12


def test_of_near_copies_one_is_asked_for_and_its_label_may_be_shared(signs):
    made = signs(n=24)
    folder = made.project.folder.parent / "images"
    for i in range(0, 24, 2):
        pixels = np.asarray(Image.open(folder / f"{i:03d}.png")).copy()
        pixels[8, 8, 0] ^= 1
        Image.fromarray(pixels).save(folder / f"{i + 1:03d}.png")
    listed = [
        ListedImage(p, hashlib.sha256((folder / p).read_bytes()).hexdigest(), width=16, height=16) for p in made.truth
    ]
    write_listing(made.project.listing_path("pool"), listed)
    with pytest.raises(ConfigError, match="12 of 24 open images are left"):
        select(made.again(), SelectOptions(n=13, dedup=0.9999))
    batch = select(made.again(), SelectOptions(n=6, dedup=0.9999, share_labels=True)).batch
    assert all(int(image.path[:3]) % 2 == 0 for image in batch.images)
    made.answer(batch)
    trained = train(made.again()).training
    assert trained.labels_used == 12
    counts = dict(zip(made.project.classes, trained.round["labeled_counts"], strict=True))
    assert counts == {c: 2 * sum(made.truth[i.path] == c for i in batch.images) for c in made.project.classes}
    assert status(made.again()).labeled == 6

    trained_on = {image.path for image in batch.images} | {
        f"{int(image.path[:3]) + 1:03d}.png" for image in batch.images
    }
    audited = audit(made.again(), 12).batch
    assert not trained_on & {image.path for image in audited.images} and audited.request.facts["of"] == 12
    cancel(made.again(), kind="audit")
    asked = select(made.again(), SelectOptions(n=12, method="random")).batch
    assert not trained_on & {image.path for image in asked.images}


@pytest.mark.parametrize("frozen", [False, True], ids=["from scratch", "frozen"])
def test_a_new_class_joins_the_head_from_the_next_round_and_is_asked_for_validation_images(signs, weights, frozen):
    made = signs(backbone=weights if frozen else "")
    made.answer(select(made.project).batch)
    _, asked = next_(made.again())
    before = made.project.classes
    made.again().add_classes(["right"])
    image = asked.batch.images[0]
    made.answer(asked.batch)
    LabelStore(made.project.folder).append(
        [LabelRow(image.path, image.digest, "right", batch=asked.batch.name, source="script", time=now())]
    )
    train(made.again())
    project = made.again()
    first, second = (read_round(project, each) for each in trainings(project))
    assert [len(each.labeled_counts) for each in (first, second)] == [3, 4]
    assert [each.classes for each in trainings(project)] == [before, (*before, "right")]
    assert second.labeled_counts[3] == 1
    head = "head.weight" if frozen else "fc2.weight"
    assert first.weights[head].shape[0] == 3 and second.weights[head].shape[0] == 4
    assert status(made.again()).without_validation == ("right",)


def test_weights_of_a_smaller_head_go_on_in_a_larger_one():
    theta_0 = {"body": torch.zeros(2, 2), "head.weight": torch.full((4, 2), 9.0), "head.bias": torch.full((4,), 9.0)}
    weights = {"body": torch.ones(2, 2), "head.weight": torch.ones(3, 2), "head.bias": torch.ones(3)}
    found = grown(weights, theta_0)
    assert found["head.weight"].tolist() == [[1, 1]] * 3 + [[9, 9]]
    assert found["head.bias"].tolist() == [1, 1, 1, 9]
    with pytest.raises(ConfigError, match="another model"):
        grown({"other": torch.ones(1)}, theta_0)
    with pytest.raises(ConfigError, match="body has the shape"):
        grown({**weights, "body": torch.ones(3, 3)}, theta_0)


def test_images_of_no_class_are_kept_out_of_training_and_their_neighbours_come_last(signs):
    made = signs(n=40)
    folder = made.project.folder.parent / "images"
    listed = list(made.project.pool)
    for i in range(30, 40):
        Image.fromarray(np.full((16, 16, 3), 250 - i, dtype=np.uint8)).save(folder / f"{i:03d}.png")
        digest = hashlib.sha256((folder / f"{i:03d}.png").read_bytes()).hexdigest()
        listed[i] = ListedImage(f"{i:03d}.png", digest, width=16, height=16)
    write_listing(made.project.listing_path("pool"), listed)
    first = select(made.again(), SelectOptions(n=40, method="random")).batch
    blank = [image for image in first.images if int(image.path[:3]) >= 30][:2]
    others = [image for image in first.images if int(image.path[:3]) < 30][:9]
    rows = [LabelRow(i.path, i.digest, made.truth[i.path], batch=first.name, time=now()) for i in others]
    rows += [LabelRow(i.path, i.digest, "", "none_of_these", batch=first.name, time=now()) for i in blank]
    LabelStore(made.project.folder).append(rows)
    cancel(made.again())
    trained = train(made.again()).training
    assert (trained.labels_used, trained.facts["none_of_these"]) == (9, 2)
    batch = select(made.again(), SelectOptions(n=21)).batch
    assert not [image.path for image in batch.images if int(image.path[:3]) >= 30]
    further = select(made.again(), SelectOptions(n=8, more=True)).batch
    assert {int(image.path[:3]) >= 30 for image in further.images} == {True}
    assert status(made.again()).none_of_these == 2
