"""The training stack: killed and resumed, shared by devices and processes, several runs at once."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.training.augmentation import augment, central
from experiments.training.placement import make_mesh
from experiments.training.records import Records, held, read_records
from experiments.training.sources import Resident
from tests.experiments import tiny_training as tiny

ROOT = Path(__file__).resolve().parents[2]


def launch(*arguments):
    command = [sys.executable, "-m", "tests.experiments.tiny_training", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def measured(folder):
    records = read_records(folder / "metrics.jsonl")
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    state = tiny.train(folder)
    return folder, [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def test_killed_between_a_record_and_its_checkpoint_it_ends_with_the_same_bytes(
    tmp_path, uninterrupted
):
    folder, leaves = uninterrupted
    process = launch(tmp_path, "--pause", 0.5)
    records = tmp_path / "metrics.jsonl"
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:  # two checkpoints, then a third one's records
        if records.exists() and len(records.read_text().splitlines()) >= 3 * len(tiny.SEEDS):
            break
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    saved = [p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]
    assert 0 < max(map(int, saved)) < tiny.STEPS
    resumed = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tiny.train(tmp_path))]
    assert resumed == [leaf.tobytes() for leaf in leaves]
    assert measured(tmp_path) == measured(folder)  # nothing lost, nothing twice


def test_two_processes_of_eight_devices_together_train_as_one_device(tmp_path, uninterrupted):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    both = [
        launch(tmp_path, "--coordinator", address, "--process", process) for process in range(2)
    ]
    for process in both:
        finish(process)
    alone = tiny.train(tmp_path / "one", devices=jax.devices()[:1])
    assert len(jax.devices()) == 4  # of each process
    together, single = measured(tmp_path), measured(tmp_path / "one")
    assert [r["step"] for r in together] == [r["step"] for r in single]
    for name in ("train_loss", "norm"):
        values = [[record[name] for record in found] for found in (together, single)]
        np.testing.assert_allclose(*values, rtol=1e-5)
    leaves = jax.tree.leaves(alone)
    for here, there in zip(leaves, uninterrupted[1], strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-6)


def test_a_run_among_others_is_the_run_alone(tmp_path, uninterrupted):
    tiny.train(tmp_path, seeds=(1,), devices=jax.devices()[:1])
    among = [r for r in measured(uninterrupted[0]) if r["run"] == "seed 1"]
    alone = measured(tmp_path)
    assert among[-1]["train_loss"] < among[0]["train_loss"]
    for name in ("train_loss", "norm"):
        values = [[record[name] for record in found] for found in (among, alone)]
        np.testing.assert_allclose(*values, rtol=1e-5)


def test_every_epoch_shows_each_image_once_in_an_order_of_its_own():
    labels = np.arange(12)
    images = np.zeros((12, 2, 2, 3), np.uint8)
    mesh = make_mesh(2, 4, jax.devices()[:2])
    source = Resident(images, labels, batch=4, seeds=[0, 1], mesh=mesh)
    rows = np.concatenate([np.asarray(source.take(2)), np.asarray(source.take(7))], axis=1)
    epochs = rows.reshape(2, 3, 12)
    assert (np.sort(epochs, axis=-1) == labels).all()
    assert len({tuple(order) for order in epochs.reshape(6, 12)}) == 6
    source.restore({"position": 8})
    np.testing.assert_array_equal(source.take(7), rows[:, 2:])


def read_number(example):
    return np.full((2, 2, 3), example, np.uint8), example


def test_a_streamed_data_set_goes_on_at_the_same_image():
    pytest.importorskip("grain")
    from experiments.training.sources import Streamed

    mesh = make_mesh(2, 4, jax.devices()[:4])

    def stream(seed):
        return Streamed(range(10), read_number, batch=4, seed=seed, mesh=mesh, threads=2)

    source = stream([0, 1])
    source.take(2)
    state = json.loads(json.dumps(source.state()))
    images, labels = source.take(3)
    assert images.shape == (2, 3, 4, 2, 2, 3) and source.axis == 0
    np.testing.assert_array_equal(images[..., 0, 0, 0], labels)
    again = stream([0, 1])
    first = np.asarray(again.take(5)[1]).reshape(2, -1)
    for epoch in (first[:, :10], first[:, 10:]):
        np.testing.assert_array_equal(np.sort(epoch), [range(10)] * 2)
    assert (first[0] != first[1]).any()
    again.restore(state)
    np.testing.assert_array_equal(again.take(3)[1], labels)
    shared = stream(1)  # the order of a run is its own, among others or alone
    assert shared.axis is None
    np.testing.assert_array_equal(np.asarray(shared.take(5)[1]).reshape(-1), first[1])
    with pytest.raises(ValueError, match="2 streams stood, not where 1 did"):
        shared.restore(state)


def test_training_goes_on_with_the_kind_of_source_that_it_was_begun_with(
    uninterrupted, monkeypatch
):
    pytest.importorskip("grain")
    from experiments.training.sources import Streamed

    def stream(images, labels, *, seeds, **rest):
        return Streamed(range(30), read_number, seed=seeds, **rest)

    folder, _ = uninterrupted
    resident = tiny.Resident
    monkeypatch.setattr(tiny, "Resident", stream)
    said = f"{folder.name} was begun .*no streams stood, not where 2 did"
    with pytest.raises(ValueError, match=said):
        tiny.train(folder)
    with pytest.raises(ValueError, match="where a stream stood"):
        resident.restore(None, {"streams": []})


def test_devices_that_cannot_share_a_batch_are_refused():
    assert dict(make_mesh(6, 4, jax.devices()[:4]).shape) == {"run": 2, "batch": 2}
    with pytest.raises(ValueError, match="4 to a run: a batch of 6 images is no multiple of 4"):
        make_mesh(1, 6, jax.devices()[:4])


def test_augmentation_shifts_within_the_padding_and_mirrors_half():
    image = jnp.zeros((4, 4, 1)).at[1, 1].set(1.0)
    images = jnp.broadcast_to(image, (400, 4, 4, 1))
    found = np.asarray(augment(jax.random.key(0), images, side=4, padding=1))[..., 0]
    spots = np.argwhere(found)
    assert len(spots) == 400  # one in each image
    places, counts = np.unique(spots[:, 1:], axis=0, return_counts=True)
    assert places.tolist() == [[y, x] for y in range(3) for x in range(4)]
    # columns 0..2, and mirrored 3..1: 1 is met by two shifts, as is 2
    assert abs(counts.reshape(3, 4).sum(0) / 400 - np.array([1, 2, 2, 1]) / 6).max() < 0.08
    plain = augment(jax.random.key(0), images, side=4, mirror=False)
    np.testing.assert_array_equal(plain, images)
    np.testing.assert_array_equal(central(images, 2), images[:, 1:3, 1:3])


def test_records_after_the_checkpoint_and_a_torn_line_are_dropped(tmp_path):
    with Records(tmp_path, after=0, tensorboard=False) as records:
        for step in (1, 2, 3):
            records.write("a", {"step": step, "loss": 0.5})
    path = tmp_path / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    assert [record["step"] for record in read_records(path)] == [1, 2, 3]
    with Records(tmp_path, after=2, tensorboard=False) as records:
        records.write("a", {"step": 3, "loss": 0.25})
    assert [r["loss"] for r in read_records(path)] == [0.5, 0.5, 0.25]


def test_a_folder_is_trained_in_by_one_program_at_a_time(tmp_path):
    with held(tmp_path), pytest.raises(RuntimeError, match="another program is training there"):
        tiny.train(tmp_path)
    assert not list(tmp_path.iterdir())
    with held(tmp_path):  # free again
        pass


def test_processes_that_do_not_share_each_batch_do_not_stream(monkeypatch):
    pytest.importorskip("grain")
    from experiments.training.sources import Streamed

    mesh = make_mesh(2, 4, jax.devices()[:2])
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="2 runs apart"):
        Streamed(range(10), None, batch=4, seed=0, mesh=mesh)


def test_tensorboard_gets_the_events(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    with Records(tmp_path, after=0, tensorboard=True) as records:
        records.write("a", {"step": 7, "run": "a", "loss": 0.5})
    (file,) = (tmp_path / "tensorboard" / "a").iterdir()
    data, events = file.read_bytes(), []
    while data:  # length, its checksum, the event, its checksum
        size = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    found = {(v.tag, e.step, v.simple_value) for e in events for v in e.summary.value}
    assert found == {("loss", 7, 0.5)}
