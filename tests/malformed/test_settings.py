"""Malformed settings, files and options: each ends with its exit code and a line per problem, and writes nothing.

Nothing is trained: what is wrong is found before any work.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.config.layers import load, preset, presets
from fkal.config.schema import ConfigError
from fkal.experiment.versions import ALGO_VERSION
from fkal.pipeline.published import FORMAT, read_published

LONG = "n" * 300
DIGITS_5000 = "9" * 5000
DEEP = "[" * 5000 + "]" * 5000
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
FLOW_BOMB = "{" + ", ".join(BOMB.splitlines()) + "}"
MOST_CHARACTERS = 800
"""Of a line that a person reads."""

Make = Callable[[Path], None]


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


@dataclass(frozen=True)
class Case:
    """A command line and what its answer names. `{file}` in it is a file with this content."""

    arguments: tuple[str, ...]
    parts: tuple[str, ...]
    content: str | bytes | Make | None = None
    name: str = "file.yaml"
    environment: Mapping[str, str] = field(default_factory=dict)
    code: int = 2
    problems: int = 1
    here: bool = False  # the file is in the working folder


def case(arguments: str | list[str], *parts: str, **more: object) -> Case:
    words = arguments.split() if isinstance(arguments, str) else arguments
    return Case(tuple(words), parts, **more)  # type: ignore[arg-type]


def assigned(text: str, *parts: str, **more: object) -> Case:
    return case(["config", "--preset", "digits", "--set", text], *parts, **more)


def variable(name: str, value: str, *parts: str) -> Case:
    return case("config --preset digits", *parts, environment={name: value})


def params(content: str | bytes | Make, *parts: str, **more: object) -> Case:
    return case("config --params {file}", "file.yaml", *parts, content=content, **more)


def grid_file(text: str, *parts: str, **more: object) -> Case:
    """A grid of the digits; `text` is what its section has."""
    content = f"grid: {text}\ndatasets:\n  digits: {{data: {{name: digits}}}}\n"
    return case("plan --params {file}", *parts, content=content, **more)


def method(spec: str, *parts: str, **more: object) -> Case:
    return case(["run", "--preset", "digits", "--method", spec], "--method", *parts, **more)


def seeds(text: str, *parts: str) -> Case:
    return case(["run", "--preset", "digits", "--seeds", text], "--seeds", *parts)


def ratio(text: str, *parts: str) -> Case:
    return case(["run", "--preset", "digits", "--ratio", text], *parts)


def tune(arguments: str, *parts: str, **more: object) -> Case:
    return case(["tune", "--dataset", "digits", *arguments.split()], *parts, **more)


SETTINGS = [
    assigned("seed=2001-99-99", "seed", "'2001-99-99'", "integer"),
    assigned("seed=2001-01-01", "seed", "'2001-01-01'", "integer"),
    assigned("train.lr=2001-99-99T99:99:99", "train.lr", "2001-99-99", "number"),
    assigned("seed=!!int x", "'x' is no int"),
    assigned("seed=!!bool maybe", "'maybe' is no bool"),
    assigned("data.name=!!binary aGk=", "tag"),
    assigned("data.name=!!python/name:os.system", "tag"),
    assigned("data.name=!!set {a}", "tag"),
    assigned("seed=[1", "seed", "'[1'", "YAML"),
    assigned(f"seed={DIGITS_5000}", "seed", "999", "40 digits"),
    assigned(f"seed=0x{'f' * 5000}", "seed", "0xff", "40 digits"),
    assigned(f"seed='{DIGITS_5000}'", "seed", "999", "200 characters"),
    assigned("seed=99999999999999999999", "seed", "99999999999999999999"),
    assigned("train.lr=1.0e+400", "train.lr", "inf"),
    assigned("train.lr=1e400", "train.lr", "inf"),
    assigned("train.lr=.nan", "train.lr", "nan", "above 0"),
    assigned("train.lr=1.0e+300", "train.lr", "1e+300", "up to 1e+30"),
    assigned("train.weight_decay=1.0e+300", "train.weight_decay", "1e+300", "1e+30"),
    assigned("bias.ratio=.inf", "bias.ratio", "inf"),
    assigned("bias.ratio=1.0e+12", "bias.ratio", "1000000000000", "1,000,000,000"),
    assigned("bias.cut=[99999999]", "bias.cut", "99999999", "1,000,000"),
    assigned(f"bias.cut=[{','.join(map(str, range(10_001)))}]", "bias.cut", "10,001", "10,000"),
    assigned("data.image_size=99999", "data.image_size", "99999", "4096"),
    assigned("data.workers=99999", "data.workers", "99999", "1,024"),
    assigned("data.validation_per_class=99999999999", "validation_per_class", "99999999999", "10,000,000"),
    assigned(f"data.mean=[{','.join(['0.5'] * 17)}]", "data.mean", "17", "16"),
    assigned("acquisition.ensemble=99999999", "acquisition.ensemble", "99999999", "1,024"),
    assigned("acquisition.samples=4097", "acquisition.samples", "4097", "4,096"),
    assigned("acquisition.parts=65537", "acquisition.parts", "65537", "65,536"),
    assigned("acquisition.parts=0", "acquisition.parts", "0", "1"),
    assigned("acquisition.budget=999999999999", "acquisition.budget", "999999999999", "100,000,000"),
    assigned("acquisition.rounds=10001", "acquisition.rounds", "10001", "10,000"),
    assigned("acquisition.batch_size=1000001", "acquisition.batch_size", "1000001", "1,000,000"),
    assigned(f"acquisition.taps=[{','.join(f'l{i}' for i in range(1001))}]", "acquisition.taps", "1,000 layers"),
    assigned("train.epochs=100001", "train.epochs", "100001", "100,000"),
    assigned("train.batch_size=99999999", "train.batch_size", "99999999", "1,000,000"),
    assigned("train.warmup_epochs=999999", "train.warmup_epochs", "999999", "100,000"),
    assigned("train.decay_epochs=[999999]", "train.decay_epochs", "999999", "100,000"),
    assigned("pretrain.epochs=100001", "pretrain.epochs", "100001", "100,000"),
    assigned("vaal.iterations=999999999", "vaal.iterations", "999999999", "100,000,000"),
    assigned("vaal.latent=999999", "vaal.latent", "999999", "65,536"),
    assigned("vaal.width=999999", "vaal.width", "999999", "4,096"),
    assigned("vaal.batch_size=9999999", "vaal.batch_size", "9999999", "1,000,000"),
    assigned("vaal.vae_steps=99999", "vaal.vae_steps", "99999", "10,000"),
    assigned("vaal.beta=1.0e+300", "vaal.beta", "1e+300", "1e+30"),
    assigned("threads=9999", "threads", "9999", "1024"),
    assigned("holdout=99999999999", "holdout", "99999999999", "10000000"),
    assigned("device=cuda:99999", "device", "cuda:99999", "cuda:1"),
    assigned("device=", "device", "None"),
    assigned("model.name=nosuch", "model.name", "nosuch"),
    assigned("acquisition.name=nosuch", "acquisition.name", "nosuch"),
    assigned("acquisition.pseudo_label=nosuch", "pseudo_label", "nosuch", "joint"),
    assigned(f"data.name={LONG}", "data.name", "nnn", "200 characters"),
    assigned(f"data.root=/{'r' * 5000}", "data.root", "rrr", "4000 characters"),
    assigned('data.root="a\\0b"', "data.root", "control characters"),
    assigned('model.name="\\e]0;x\\a"', "model.name", "control characters"),
    assigned(f"data.name={DEEP}", "data.name", "50 lists"),
    assigned(f"data.name={FLOW_BOMB}", "data.name", "YAML"),
    assigned("data.name=" + "{a: &a [*a]}", "part of what it stands for"),
    assigned("train={1: x}", "the key 1"),
    assigned("train={null: x}", "null", "no name"),
    assigned("train={[a]: x}", "key is a list", "name"),
    assigned("train={lr: 1, lr: 2}", "'lr' stands twice"),
    assigned("=3", "--set '=3'", "train.lr=0.1"),
    assigned("train.lr", "--set 'train.lr'", "train.lr=0.1"),
    assigned("a..b=1", "--set 'a..b=1'", "train.lr=0.1"),
    assigned("train.lr.x.y=1", "train.lr.x.y", "section.key"),
    assigned("train.lr.x=1", "train.lr", "number"),
    assigned(f"{LONG}=1", "unknown key", "known here"),
    assigned(f"train.{LONG}=1", "unknown key", "known here"),
    assigned("train=3", "train", "3", "section"),
    assigned("train=[1]", "train", "[1]", "section"),
    assigned("seed=true", "seed", "flag"),
    assigned("acquisition.taps=conv2", "acquisition.taps", "'conv2'", "list"),
    assigned("acquisition.taps={a: b}", "acquisition.taps", "list"),
    assigned("bias.fractions={a: 0.1}", "bias.fractions", "'a'", problems=1),
]

TWICE = [
    case("config --preset digits --set train.lr=0.1 --set train.lr=0.2", "train.lr=0.1", "train.lr=0.2", "contradict"),
    case(["config", "--preset", "digits", "--set", "train.lr=0.1", "--set", "train={lr: 0.2}"], "contradict"),
    case("run --preset digits --method pfk_joint --set acquisition.pseudo_label=predicted", "pfk_joint", "predicted"),
    case("run --preset digits --method random --set acquisition.name=pfk", "--method random", "acquisition.name='pfk'"),
    case("run --preset digits --method varr:e2 --set acquisition.ensemble=4", "varr:e2", "acquisition.ensemble=4"),
    case("run --preset digits --method random,pfk --set acquisition.name=pfk", "--method random", "contradict"),
    case("run --preset digits --method random:head_only --set train.layers=all", "head_only", "train.layers='all'"),
    case("run --preset digits --seeds 0-4 --set seed=0", "--seeds 1", "seed=0", "contradict"),
    case("run --preset digits --ratio 10 --set bias.ratio=20", "--ratio 10", "bias.ratio=20", "contradict"),
    case("run --preset digits --data-root /a --set data.root=/b", "--data-root /a", "data.root='/b'", "contradict"),
    case("run --dataset digits --set data.name=mnist", "--dataset digits", "data.name='mnist'", "contradict"),
    case("cost --preset digits --seeds 1 --set seed=2", "--seeds 1", "seed=2"),
    case("split --preset digits --seeds 1 --set seed=2", "--seeds 1", "seed=2"),
    case("pretrain --preset digits --ratio 1 --set bias.ratio=2", "--ratio 1", "bias.ratio=2"),
    case("descriptors --preset digits --method pcc --set acquisition.name=pfk", "--method pcc", "'pfk'"),
    case("config --preset digits --ratio 1 --set bias.ratio=2", "--ratio 1", "bias.ratio=2"),
    tune("--seeds 1 --set seed=2", "--seeds 1", "seed=2", "contradict"),
    tune("--holdout 3 --set holdout=2", "--holdout 3", "holdout=2", "contradict"),
    tune("--method random --set acquisition.name=pfk", "--method random", "'pfk'", "contradict"),
    case(
        "config --preset digits",
        "FKAL_DATA_ROOT",
        "FKAL_DATA__ROOT",
        "contradict",
        environment={"FKAL_DATA_ROOT": "/a", "FKAL_DATA__ROOT": "/b"},
    ),
    case("config --preset digits --params x.yaml", "--preset and --params", "one of them"),
    case("config --preset digits --dataset foo", "--dataset 'foo'", "'digits'", "leave"),
    case("run --preset digits --dataset mnist", "--dataset 'mnist'", "'digits'"),
    case("run --preset digits --dataset digits,mnist", "--dataset 'digits,mnist'", "'digits'"),
    case("config --params {file} --dataset foo", "--dataset 'foo'", "'digits'", content="data: {name: digits}"),
]

ENVIRONMENT = [
    variable("FKAL_SEED", "x", "seed", "'x'", "environment"),
    variable("FKAL_SEED", "2001-99-99", "seed", "2001-99-99"),
    variable("FKAL_SEED", DIGITS_5000, "FKAL_SEED", "40 digits"),
    variable("FKAL_SEED", "", "seed", "None"),
    variable("FKAL_TRAIN__LR", "[", "FKAL_TRAIN__LR", "YAML"),
    variable("FKAL_TRAIN__LR", DEEP, "FKAL_TRAIN__LR", "50 lists"),
    variable("FKAL_TRAIN", FLOW_BOMB, "FKAL_TRAIN", "YAML"),
    variable("FKAL_TRAIN__NOSUCH", "1", "train.nosuch", "unknown key"),
    variable("FKAL_TRAIN__LR__A__B", "1", "train.lr.a.b", "section.key"),
    variable("FKAL_ACQUISITION__ENSEMBLE", "99999999", "acquisition.ensemble", "99999999", "1,024"),
    variable("FKAL_DATA_ROOT", "", "data.root", "folder"),
    variable("FKAL_DATA__NAME", LONG, "data.name", "200 characters"),
    variable("FKAL_DEVICE", "gpu", "device", "'gpu'", "cpu"),
    case("run --preset digits", "FKAL_JOBS='x'", "integer", environment={"FKAL_JOBS": "x"}),
    case("run --preset digits", "--jobs 0", environment={"FKAL_JOBS": "0"}),
    case("run --preset digits", "--jobs 99999", "1024", environment={"FKAL_JOBS": "99999"}),
]

PARAMS = [
    params(BOMB, "100,000 values"),
    params("train: [", "YAML", "line"),
    params(DEEP, "50 lists"),
    params("{a: " * 3000 + "}" * 3000, "50 lists"),
    params(f"seed: {DIGITS_5000}", "40 digits"),
    params("seed: 2001-99-99", "seed", "2001-99-99"),
    params("1: x", "1", "name"),
    params("null: x", "null", "name"),
    params("[a]: b", "key is a list"),
    params("{a: b}: c", "key is a list or a mapping"),
    params("yes: b", "yes", "no name"),
    params("train: {1: 2}", "the key 1", "name"),
    params("train: {1.5: 2}", "1.5", "no name"),
    params("- 3", "list", "mapping"),
    params("3", "holds 3", "mapping"),
    params("", "is empty", "mapping"),
    params("seed: 0\nseed: 1", "'seed' stands twice"),
    params("seed: 0\n---\nseed: 1", "single document"),
    params(b"\xff\xfe\x00\x01seed", "UTF-8"),
    params(b"seed: \x00", "not allowed"),
    params("!!python/object/apply:os.getcwd []", "tag"),
    params("a: *b", "alias"),
    params("&a [*a]", "part of what it stands for"),
    params("nosuch: 1", "nosuch", "unknown key"),
    params("trian: {lr: 1}\ndata: {nmae: x}", "trian", "nmae", problems=2),
    params("a: 1\n" * 1, "unknown key", "known here"),
    params("".join(f"k{i}: 1\n" for i in range(500)), "k0", "480 more", problems=21),
    params("train: {decay_epochs: [" + "x, " * 500 + "]}", "decay_epochs", "more", problems=21),
    params(f"data: {{name: {LONG}}}", "200 characters"),
    params(f"{LONG}: 1", "nnn", "unknown key"),
    params(fifo, "a pipe or a device", "regular file"),
    params(device, "a pipe or a device", "regular file"),
    params(folder, "a folder", "regular file"),
    params(huge, "1,099,511,627,776 bytes", "10,000,000"),
    case("config --params nosuch.yaml", "nosuch.yaml", "preset", code=4),
    case(["config", "--params", LONG], "--params", "300 bytes", "255"),
    case(["config", "--params", "p/" * 3000], "--params", "6,000 bytes", "4,000"),
    case("config --params nosuch/x.yaml", "nosuch/x.yaml", code=4),
    case(["config", "--params", ""], "--params ''", "is empty"),
    case("config --preset nosuch", "'nosuch'", "digits"),
    case(["config", "--preset", LONG], "nnn", "(300 characters)", "digits"),
    case("config --dataset nosuch", "'nosuch'", "digits"),
    case("config", "no params.yaml", "fkal grid", code=4),
    params("datasets: 3", "datasets", "settings of each dataset"),
    params("datasets: {digits: 3}", "datasets", "settings of each dataset"),
    params("datasets: {}\nseed: 1", "seed", "beside datasets"),
    params("datasets: {1: {seed: 0}}", "the key 1", "name"),
    params(f"datasets: {{{LONG}: {{seed: 0}}}}", "nnn", "100 characters"),
    params("datasets: {a: {seed: 0}, b: {seed: 0}}", "a, b", "--dataset"),
    params("datasets: {../a: {seed: 0}}", "'../a'", "name"),
    params("methods: {}\nnosuch: 1", "nosuch", "known: grid"),
    params("methods: [a]", "methods", "pcc_conv2: pcc@conv2"),
    params("methods: {a: 3}", "methods", "pcc_conv2: pcc@conv2"),
    params("methods: {a@b: random}", "'a@b'", "cannot name a stage"),
    params("grid: 3", "grid", "3", "dataset, ratio, method"),
    params("grid: [a]", "grid", "dataset, ratio, method"),
]

GRIDS = [
    grid_file("{dataset: [digits], ratio: [.nan], method: [random]}", "grid.ratio", "nan", "[1, 100]"),
    grid_file("{dataset: [digits], ratio: [true], method: [random]}", "grid.ratio", "True", "[1, 100]"),
    grid_file("{dataset: [digits], ratio: ['1e2'], method: [random]}", "grid.ratio", "'1e2'", "[1, 100]"),
    grid_file("{dataset: [digits], ratio: [-1], method: [random]}", "grid.ratio", "-1", "1 or more"),
    grid_file("{dataset: [digits], ratio: [1, 1.0], method: [random]}", "grid.ratio", "twice"),
    grid_file("{dataset: [digits], ratio: 1, method: [random]}", "grid.ratio", "list"),
    grid_file("{dataset: [digits], ratio: [1], method: []}", "grid.method", "one or more"),
    grid_file("{dataset: [digits], ratio: [1], method: [random, random]}", "grid.method", "'random'", "twice"),
    grid_file("{dataset: [digits], ratio: [1], method: [pfk_joint, pfk]}", "grid.method", "one of them"),
    grid_file("{dataset: [digits], ratio: [1], method: [3]}", "grid.method", "3", "string"),
    grid_file("{dataset: [digits], ratio: [1], method: [nosuch]}", "nosuch", "known"),
    grid_file(f"{{dataset: [digits], ratio: [1], method: [{LONG}]}}", "nnn", "100 characters"),
    grid_file("{dataset: [digits], ratio: [1], method: [pcc@conv2]}", "'pcc@conv2'", "cannot name a stage"),
    grid_file("{dataset: [mnist], ratio: [1], method: [random]}", "'mnist'", "it has: digits"),
    grid_file("{dataset: [], ratio: [1], method: [random]}", "grid.dataset", "one or more"),
    grid_file("{dataset: digits, ratio: [1], method: [random]}", "grid.dataset", "list"),
    grid_file("{ratio: [1], method: [random]}", "grid.dataset", "required"),
    grid_file("{dataset: [digits], ratio: [1], method: [random], seed: 3}", "grid.seed", "unknown key", "seeds"),
    grid_file("{dataset: [digits], ratio: [1], method: [random], seeds: x}", "grid.seeds", "'x'", "0-4"),
    grid_file("{dataset: [digits], ratio: [1], method: [random], seeds: [0]}", "grid.seeds", "[0]", "0-4"),
    grid_file("{dataset: [digits], ratio: [1], method: [random], seeds: 0-999999}", "grid.seeds", "1000 seeds"),
    grid_file("{dataset: [digits], ratio: [1], method: [random], seeds: ''}", "grid.seeds", "''", "0-4"),
    grid_file("{dataset: [digits], method: [random]}", "a grid with dataset, ratio, method"),
    grid_file("{1: x}", "the key 1", "name"),
    case("grid --dataset digits --ratio nan", "--ratio 'nan'", "1,100"),
    case("grid --dataset digits --ratio .nan", "--ratio '.nan'", "1,100"),
    case("grid --dataset digits --ratio -1", "-1"),
    case("grid --dataset digits --ratio=-1", "--ratio '-1'", "1 or more"),
    case("grid --dataset digits --ratio 0.5", "--ratio '0.5'", "1 or more"),
    case("grid --dataset digits --ratio true", "--ratio 'true'", "1,100"),
    case("grid --dataset digits --ratio 1,1", "--ratio '1,1'", "twice"),
    case("grid --dataset digits --ratio 1,1.0", "ratio", "twice"),
    case("grid --dataset digits --ratio 1,,2", "--ratio ''", "1,100"),
    case(["grid", "--dataset", "digits", "--ratio", DIGITS_5000], "--ratio", "40 digits"),
    case("grid --dataset digits --ratio 1e400", "--ratio '1e400'", "1,100"),
    case("grid --dataset digits --ratio 1.0e+12", "1000000000000", "1,000,000,000"),
    case("grid --dataset digits --method nosuch", "nosuch", "known"),
    case("grid --dataset digits --method random,random", "--method 'random,random'", "twice"),
    case("grid --dataset digits --method pfk,pfk_joint", "digits-ir100-pfk_joint-s0", "one of them"),
    case("grid --dataset digits --method fisher_coverage,pfk_joint_shift_grid:coverage", "fisher_coverage"),
    case("grid --dataset digits --method pcc@conv2,pcc_conv2", "pcc@conv2,pcc_conv2", "one name"),
    case("grid --dataset digits --method random,,pfk", "--method ''"),
    case("grid --dataset digits --method random:e4", "random:e4", "leave ':e4' out"),
    case("grid --dataset digits --method varr:e99999999", "99999999", "1,024"),
    case(["grid", "--dataset", "digits", "--method", LONG], "nnn", "100 characters"),
    case("grid --dataset nosuch", "'nosuch'", "digits"),
    case("grid --dataset digits,digits", "--dataset 'digits,digits'", "twice"),
    case("grid --dataset digits --seeds x", "--seeds 'x'", "0-4"),
    case("grid --dataset digits --seeds 4-1", "--seeds '4-1'", "1-4"),
    case("grid", "--dataset", "grid --help"),
]

METHODS = [
    method("varr:e99999999", "acquisition.ensemble", "99999999", "1,024"),
    method("varr:k99999999", "acquisition.samples", "99999999", "4,096"),
    method(f"varr:k{DIGITS_5000}", "1000 characters"),
    method(f"varr:k{'9' * 50}", "9 digits"),
    method("varr:k0", "acquisition.samples", "0", "at least 1"),
    method("varr:k\N{ARABIC-INDIC DIGIT THREE}", "unknown", "e4, k32"),
    method("varr:e2:e4", "'e4'", "one of them"),
    method(LONG, "nnn", "100 characters"),
    method("random" + ":" + "x" * 2000, "1000 characters"),
    case(
        ["run", "--preset", "digits", "--method", "pfk_joint@" + "+".join(f"layer{i}" for i in range(60))],
        "digits-ir20-pfk_joint@layer0",
        "at most 240",
        "fewer taps",
    ),
    method("pfk_nosuch", "nosuch", "joint"),
    method("@conv2", "'@conv2'", "pfk_joint@conv2"),
    method("random,,pfk", "''", "NAME"),
    method(" ", "' '", "is empty"),
    method("", "''", "is empty"),
    method("random:sum", "random:sum", "leave ':sum' out"),
    seeds("x", "'x'", "0-4"),
    seeds("-1", "-1"),
    seeds("1.5", "'1.5'", "0-4"),
    seeds("0-", "'0-'", "0-4"),
    seeds("0,,1", "''", "0-4"),
    seeds("4-1", "'4-1'", "1-4"),
    seeds("0-99999999999", "'0-99999999999'", "9 digits", "999,999,999"),
    seeds("0-5000000", "1000 seeds"),
    seeds(DIGITS_5000, "999", "(5,000 characters)", "9 digits"),
    seeds(",".join(f"{i}000-{i}999" for i in range(200)), "100,000 seeds"),
    seeds("\N{SUPERSCRIPT TWO}", "0-4"),
    seeds("true", "'true'", "0-4"),
    seeds("", "''", "is empty"),
    ratio("nan", "bias.ratio", "nan"),
    ratio(".nan", "bias.ratio", "nan"),
    ratio("true", "bias.ratio", "flag"),
    ratio("0", "bias.ratio", "0", "1 or more"),
    ratio("x", "bias.ratio", "'x'", "number"),
    ratio("1,,2", "bias.ratio", "None", "number"),
    ratio("[", "--ratio", "YAML"),
    ratio(DIGITS_5000, "--ratio", "40 digits"),
    ratio("1.0e+400", "bias.ratio", "inf"),
    case(
        [
            *("run", "--preset", "digits", "--ratio", ",".join(map(str, range(1, 200))), "--seeds", "0-999"),
        ],
        "199,000 experiments",
        "100,000",
    ),
]

EMPTY = [
    case([*command.split(), option, ""], f"{option} ''", "is empty", "leave")
    for command, options in {
        "run --preset digits": "--out --tracking-uri --dataset --params --data-root --plan --method --seeds",
        "cost --preset digits": "--out --method --seeds --ratio",
        "split --preset digits": "--out --plan --ratio",
        "pretrain --preset digits": "--out --plan",
        "descriptors --preset digits": "--out --plan",
        "tune --dataset digits": "--space --sampler --pruner --storage --tuned-dir --objective --method --seeds",
        "report": "--root --out --curves --tracking-uri --method --reach --test --against --to",
        "grid --dataset digits": "--ratio --method --seeds",
        "plan": "--params --root --out",
        "sync": "--root --out --tracking-uri",
        "show x": "--out --tracking-uri",
        "runs": "--dataset --bias --method --seed --status --tracking-uri",
        "runs export x.csv": "--dataset --tracking-uri",
    }.items()
    for option in options.split()
]

OPTIONS = [
    case(["run", "--preset", "digits", "--out="], "--out ''", "is empty"),
    case(["show", ""], "''", "is empty"),
    case(["compare", "x", " "], "' '", "is empty"),
    case(["runs", "rm", ""], "''", "is empty"),
    case(["runs", "export", ""], "''", "is empty"),
    case(["run", "--preset", "digits", "--out", LONG], "--out", "300 bytes", "255"),
    case("run --preset digits --out /dev/null/x", "--out /dev/null/x", "another folder"),
    case("run --preset digits --jobs 0", "--jobs 0", "1 to 1024"),
    case("run --preset digits --jobs 9999999", "--jobs 9999999", "1 to 1024"),
    case("run --preset digits --jobs x", "'x'", "integer", "fkal run --help"),
    case("run --preset digits --nosuch", "--nosuch", "fkal run --help"),
    case("run --preset digits extra", "extra", "fkal run --help"),
    case("run --preset digits --method pcc --seeds", "--seeds", "fkal run --help"),
    case("grid --dataset digits --method x]", "'x]'", "cannot name a stage"),
    case("nosuch", "nosuch", "--help"),
    case("--nosuch", "--nosuch", "--help"),
    case("run --preset digits --plan {file}", "--preset", "--plan", "one or the other", content="x: 1"),
    case("list nosuch", "nosuch", "datasets"),
    case("list", "say which list", "datasets"),
    case("grid --dataset folder --ratio 1", "--dataset folder", "--folder PATH"),
    case("grid --dataset digits --folder x", "--folder 'x'", "folder"),
    case("show", "'run'", "fkal show --help"),
    case("show x", "runs", "fkal run", code=4),
    case("compare x", "'second'", "fkal compare --help"),
    case("runs", "no MLflow store", code=4),
    case("runs --status nosuch", "'nosuch'", "finished"),
    case("runs --seed x", "'x'", "0-4"),
    case("runs --tracking-uri ftp://x", "ftp://x", "postgresql"),
    case("runs rm", "name the runs to remove"),
    case("runs export x.txt", "x.txt", ".csv or .parquet"),
    case("runs export nosuch/x.csv", "nosuch", "make it"),
    case(["runs", "export", f"{LONG}.csv"], "304 bytes", "255"),
    case("runs --dataset x export x.csv", "options follow the command"),
    case("report", "nothing is published", code=4),
    case("report --out nosuch", "nosuch", code=4),
    case("report --reach x", "--reach 'x'", "80,90"),
    case("report --reach nan", "--reach 'nan'", "100"),
    case("report --reach 0", "--reach '0'", "100"),
    case("report --reach 101", "--reach '101'", "100"),
    case("report --reach 1e400", "--reach '1e400'", "100"),
    case("report --reach 80,,90", "--reach '80,,90'", "80,90"),
    case("report --test nosuch", "--test 'nosuch'", "wilcoxon"),
    case("report --curves x.csv --out runs", "--curves stands alone"),
    case("report --curves nosuch.csv", "nosuch.csv", "name a file of curves"),
    case("sync --root nosuch", "nosuch", "dvc pull", code=4),
    case("plan --params {file} --root {file}", "a grid with dataset", content="seed: 0"),
    case("plan", "params.yaml", "fkal grid", code=4),
]

TUNE = [
    tune("--trials 0", "--trials 0", "at least 1"),
    tune("--trials -1", "-1"),
    tune("--trials=-1", "--trials -1", "at least 1"),
    tune("--trials 999999999", "--trials 999999999", "100,000"),
    tune("--trials x", "'x'", "integer"),
    tune("--holdout 0", "--holdout 0", "at least 1"),
    tune("--holdout=-1", "--holdout -1", "at least 1"),
    tune("--holdout 30", "--holdout 30", "at most 29"),
    tune("--holdout 999999999999", "--holdout 999999999999", "at most 29"),
    tune("--space nosuch", "'nosuch'", "known"),
    tune("--space lr,,decay", "''", "known"),
    tune(f"--space {LONG}", "nnn", "known"),
    tune("--objective nosuch", "'nosuch'", "aubc"),
    tune("--objective cost", "'cost'", "aubc,cost"),
    tune("--objective aubc,final", "'aubc,final'", "aubc,cost"),
    tune("--sampler nosuch", "'nosuch'", "tpe"),
    tune("--pruner nosuch", "'nosuch'", "median"),
    tune("--method random,pfk", "random,pfk", "one of them"),
    tune("--seeds x", "'x'", "0-4"),
    tune("--storage {file}", "--storage", "regular file", content=fifo),
    tune("--storage {file}", "--storage", "regular file", content=device),
    tune("--storage {file}", "--storage", "regular file", content=folder),
    tune("--tuned-dir {file}", "--tuned-dir", "is a file", content="x"),
    tune("--preset digits", "--dataset digits", "one of them"),
    tune(f"--storage {LONG}", "--storage", "300 bytes", "255"),
    tune("--apply", "digits.yaml", "fkal tune --dataset digits", code=4),
    tune("--apply --space lr", "--space", "--apply"),
    *(
        case("tune --params {file}", *parts, content=f"tune: {section}\n")
        for section, parts in {
            "3": ("tune", "space"),
            "{}": ("tune", "space"),
            "{space: 3}": ("tune", "space"),
            "{space: {train.lr: 1}, more: 1}": ("tune.more", "known here: space"),
            "{space: {train.lr: {low: .nan, high: 1}}}": ("tune.space.train.lr", "nan", "finite"),
            "{space: {train.lr: {low: 0.1, high: .inf}}}": ("tune.space.train.lr", "inf", "finite"),
            "{space: {train.lr: {low: 1, high: 0.1}}}": ("tune.space.train.lr", "low 1", "exchange"),
            "{space: {train.lr: {low: true, high: 3}}}": ("tune.space.train.lr.low", "valid"),
            "{space: {train.lr: {low: 0.1}}}": ("tune.space.train.lr.high", "required"),
            "{space: {train.lr: []}}": ("tune.space.train.lr", "choices"),
            "{space: {train.lr: [[1]]}}": ("tune.space.train.lr", "choices"),
            "{space: {train.epochs: [99999999]}}": ("tune.space.train.epochs", "99999999", "100,000"),
            "{space: {acquisition.taps: 3}}": ("tune.space.acquisition.taps", "3", "list"),
            "{space: {1: [1]}}": ("1", "name"),
        }.items()
    ),
]

STUDY = {
    "name": "digits-x",
    "digest": "0" * 32,
    "objective": "aubc",
    "value": 0.5,
    "default": None,
    "seeds": [0],
    "trials": 3,
    "holdout": 6,
    "applied": True,
    "over": {"train.lr": 0.05},
}


TUNED_DIGITS = {"name": "params/tuned/digits.yaml", "here": True}


def tuned(content: str | bytes | Make, *parts: str, **more: object) -> Case:
    return case("config --preset digits", "digits.yaml", *parts, content=content, **TUNED_DIGITS, **more)


def study(*parts: str, **changes: object) -> Case:
    return tuned(yaml.safe_dump({"study": {**STUDY, **changes}, "train": {"lr": 0.1}}), *parts)


TUNED = [
    tuned("3", "holds 3", "mapping"),
    tuned("train: 3", "'train'", "known"),
    tuned("nosuch: {lr: 1}", "'nosuch'", "known"),
    tuned("train: {nosuch: 1}", "nosuch", "unknown key"),
    tuned("train: {lr: x}", "train.lr", "'x'", "number"),
    tuned("train: {epochs: 99999999}", "train.epochs", "99999999", "100,000"),
    tuned("train: {1: x}", "1"),
    tuned("study: 3\ntrain: {lr: 0.1}", "study", "3", "fkal tune --force"),
    tuned("study: {}\ntrain: {lr: 0.1}", "study.name", "required", "fkal tune --force", problems=10),
    tuned(BOMB, "100,000 values"),
    tuned(fifo, "a pipe or a device"),
    tuned(device, "a pipe or a device"),
    tuned(folder, "a folder"),
    tuned(huge, "10,000,000"),
    tuned(b"\xff\xff", "UTF-8"),
    study("study.value", "'x'", "number", value="x"),
    study("study.value", "nan", "finite", value=float("nan")),
    study("study.seeds", "'x'", "list", seeds="x"),
    study("study.seeds", "-1", seeds=[-1]),
    study("study.seeds", "[]", seeds=[]),
    study("study.trials", "-3", trials=-3),
    study("study.applied", "'x'", "true or false", applied="x"),
    study("study.digest", "'x'", digest="x"),
    study("study.over", "'x'", over="x"),
    study("study.over", "differ", over={"train.decay": 0.1}),
    study("study.more", "'x'", more="x"),
    case("tune --dataset digits --apply", "digits.yaml", "100,000 values", content=BOMB, **TUNED_DIGITS),
    case("tune --dataset digits --apply", "digits.yaml", "no sections", content="a: 1", **TUNED_DIGITS),
    case("tune --dataset digits --apply", "digits.yaml", "a pipe", content=fifo, **TUNED_DIGITS),
]


def planned(*parts: str, stage: str = "run", **changes: object) -> Case:
    name = {"run": "plan/digits-20/methods/random.yaml"}.get(stage, f"plan/digits-20/{stage}.yaml")
    values = {"algorithm": ALGO_VERSION, "cell": "digits-20-random", "seeds": [0], "settings": {}, **changes}
    content = yaml.safe_dump({k: v for k, v in values.items() if v != "left out"})
    return case(f"{stage} --plan {{file}}", name.rpartition("/")[2], *parts, content=content, name=name)


def plan_text(content: str | bytes | Make, *parts: str, **more: object) -> Case:
    return case("run --plan {file}", *parts, content=content, name="plan/digits-20/methods/random.yaml", **more)


PLANS = [
    planned("cell", "3", "fkal plan", cell=3),
    planned("cell", "None", "fkal plan", cell=None),
    planned("cell", "'../../x'", "fkal plan", cell="../../x"),
    planned("cell", "'a/../b'", "fkal plan", cell="a/../b"),
    planned("cell", "''", "fkal plan", cell=""),
    planned("cell", "nnn", "fkal plan", cell=LONG),
    planned("seeds", "'x'", "list", "fkal plan", seeds="x"),
    planned("seeds", "[]", "fkal plan", seeds=[]),
    planned("seeds", "['x']", "integer", "fkal plan", seeds=["x"]),
    planned("seeds", "[-1]", "fkal plan", seeds=[-1]),
    planned("seeds", "[True]", "fkal plan", seeds=[True]),
    planned("seeds", "3", "list", "fkal plan", seeds=3),
    planned("settings", "[1]", "fkal plan", settings=[1]),
    planned("settings", "None", "fkal plan", settings=None),
    planned("unknown key", settings={"nosuch": 1}),
    planned("train.epochs", "99999999", settings={"train": {"epochs": 99999999}}),
    planned("algorithm", "fkal plan", algorithm=0),
    planned("algorithm", "fkal plan", algorithm="left out"),
    planned("fkal plan", cell="left out"),
    planned("fkal plan", seeds="left out"),
    planned("cell", "3", "fkal plan", stage="split", cell=3),
    planned("fkal plan", stage="pretrain", methods={}),
    planned("fkal plan", stage="pretrain", methods=[]),
    planned("fkal plan", stage="pretrain", methods=[3]),
    planned("fkal plan", stage="pretrain"),
    planned("seeds", "'x'", stage="pretrain", methods=[{"cell": "a/b", "seeds": "x", "settings": {}}]),
    planned("fkal plan", stage="descriptors", methods="x"),
    planned("settings", "3", stage="descriptors", methods=[{"cell": "a/b", "seeds": [0], "settings": 3}]),
    plan_text(BOMB, "100,000 values"),
    plan_text("[1]", "list", "mapping"),
    plan_text("", "is empty", "mapping"),
    plan_text("{", "YAML"),
    plan_text(fifo, "a pipe or a device"),
    plan_text(device, "a pipe or a device"),
    plan_text(folder, "a folder"),
    plan_text(huge, "10,000,000"),
    plan_text(b"\xff", "UTF-8"),
    case("run --plan nosuch/methods/x.yaml", "nosuch/methods/x.yaml", "fkal plan", code=4),
    case("run --plan {file}", "not the plan of this stage", content="a: 1"),
    case(["run", "--plan", LONG], "--plan", "300 bytes", "255"),
]

HEADER = "dataset,bias,protocol,method,seed,b,labels_used,test/accuracy"
ROW = ("mnist", "ir1", "last", "random", "0", "1", "125", "0.5")


def curves(content: str | bytes | Make, *parts: str, **more: object) -> Case:
    return case("report --curves {file}", "file.csv", *parts, content=content, name="file.csv", **more)


def cell(column: str, value: str, *parts: str) -> Case:
    """One row with another value in a column."""
    row = [value if name == column else old for name, old in zip(HEADER.split(","), ROW, strict=True)]
    return curves(f"{HEADER}\n{','.join(row)}\n", "line 2", column, *parts)


CURVES = [
    *(
        cell("test/accuracy", value, repr(value), words)
        for value, words in {
            "-1": "0 to 1",
            "1.5": "0 to 1",
            "inf": "number",
            "nan": "number",
            "NaN": "number",
            "1e400": "finite",
            "good": "number",
            "0x": "number",
            "0x1": "number",
            "1_0": "number",
            "true": "number",
        }.items()
    ),
    cell("test/accuracy", "", "empty", "accuracy"),
    *(cell("seed", value, "whole number") for value in ("x", "-1", "1.5", "", "1e3", "true", "9" * 30, DIGITS_5000)),
    *(cell("b", value, "whole number") for value in ("x", "0", "-1", "1.5", "", "inf")),
    *(cell("labels_used", value, "whole number") for value in ("-20", "0", "x", "1.5", "", "nan", "9" * 15)),
    *(cell(column, "", "''", "empty") for column in ("dataset", "bias", "method")),
    *(cell(column, "m" * 2000, "1000 characters") for column in ("dataset", "bias", "method")),
    cell("method", "\x1b]0;x\x07", "control characters"),
    cell("protocol", "best", "'best'", "last or paper"),
    cell("protocol", "", "''", "last or paper"),
    curves("", "empty"),
    curves("\n\n", "empty"),
    curves(HEADER + "\n", "0 rows"),
    curves(HEADER.replace(",", ";") + "\n" + ";".join(ROW) + "\n", "lacks"),
    curves(HEADER.replace(",", "\t") + "\n" + "\t".join(ROW) + "\n", "lacks"),
    curves(f"{HEADER}\n{','.join(ROW[:-1])}\n", "line 2", "7 cells", "8"),
    curves(f"{HEADER}\n{','.join(ROW)},1\n", "line 2", "9 cells"),
    curves(f"{HEADER},seed\n{','.join(ROW)},1\n", "line 1", "'seed'", "twice"),
    *(
        curves(f"{HEADER.replace(name, 'other')}\n{','.join(ROW)}\n", "lacks", name)
        for name in ("dataset", "bias", "protocol", "method", "seed", "labels_used", "test/accuracy")
    ),
    curves(f"{HEADER}\n{','.join(ROW)}\n{','.join(ROW)}\n", "line 3", "more than once"),
    curves(f"{HEADER}\n{','.join(ROW)}\n" + ",".join([*ROW[:5], "2", "100", "0.6"]) + "\n", "line 3", "100", "grow"),
    curves(f"{HEADER}\n{','.join(ROW)}\n" + ",".join([*ROW[:5], "2", "125", "0.6"]) + "\n", "line 3", "125", "grow"),
    curves(f"{HEADER},val/accuracy\n{','.join(ROW)},7\n", "line 2", "val/accuracy", "0 to 1"),
    curves(f"{HEADER},test/class_0\n{','.join(ROW)},x\n", "line 2", "test/class_0", "number"),
    curves(f"{HEADER},select/targets\n{','.join(ROW)},many\n", "line 2", "select/targets", "number"),
    curves(f'{HEADER}\n{",".join(ROW[:-1])},"0.5\n', "CSV"),
    curves(f"{HEADER}\n" + f"{','.join([*ROW[:4], 'x', *ROW[5:]])}\n" * 50, "line 2", "30 more", problems=21),
    curves(b"\x00\x01\x02\xff", "UTF-8"),
    curves(b"\x89PNG\r\n\x1a\n" + bytes(100), "UTF-8"),
    curves("\x00" * 100, "lacks"),
    curves(",".join(f"c{i}" for i in range(3000)), "3,000 columns"),
    curves(fifo, "a pipe or a device"),
    curves(device, "a pipe or a device"),
    curves(folder, "a folder"),
    curves(huge, "200,000,000"),
    case(["report", "--curves", LONG], "--curves", "300 bytes", "255"),
]

CASES = [
    *SETTINGS,
    *TWICE,
    *ENVIRONMENT,
    *PARAMS,
    *GRIDS,
    *METHODS,
    *EMPTY,
    *OPTIONS,
    *TUNE,
    *TUNED,
    *PLANS,
    *CURVES,
]


def name_of(each: Case) -> str:
    content = each.content if isinstance(each.content, str) else getattr(each.content, "__name__", "")
    return " ".join([*each.arguments, *each.environment, content]).encode("ascii", "replace").decode()[-60:]


def tree(place: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder with its size and time, nothing followed."""
    return {
        path.relative_to(place).as_posix(): (0 if path.is_dir() else path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in place.rglob("*")
    }


def put(path: Path, content: str | bytes | Make) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)


def test_the_table_is_large():
    assert len(CASES) >= 200


@pytest.mark.parametrize("each", CASES, ids=map(name_of, CASES))
def test_what_is_malformed_is_answered_in_a_line_and_changes_nothing(each, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    file = (here if each.here else tmp_path) / each.name
    if each.content is not None:
        put(file, each.content)
    monkeypatch.chdir(here)
    for name, value in each.environment.items():
        monkeypatch.setenv(name, value)
    before = tree(here)
    result = CliRunner().invoke(app, [word.replace("{file}", str(file)) for word in each.arguments])
    assert result.exit_code == each.code, result.output
    assert "Traceback" not in result.output
    errors = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert all(line.startswith("error: ") and len(line) <= MOST_CHARACTERS for line in errors), errors
    assert len(errors) == each.problems, errors
    for part in each.parts:
        assert part in result.stderr, result.stderr
    assert result.stdout == ""
    assert tree(here) == before


PUBLISHED = {"format": FORMAT, "config": {}, "fingerprint": "0" * 32, "split_digest": "0" * 32}


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"a": ' * 50_000, "nested too deep"),
        (f'{{"format": {DIGITS_5000}}}', "5,000 digits; at most 40"),
        ('{"format": NaN}', "NaN"),
        ("", "not a published experiment"),
        ("[]", "not a published experiment"),
        ("3", "not a published experiment"),
        (b"\xff", "not a published experiment"),
        (json.dumps({**PUBLISHED, "config": [1]}), "[1] is no mapping"),
        (json.dumps({**PUBLISHED, "config": None}), "None is no mapping"),
        (json.dumps({**PUBLISHED, "config": {"train": {"epochs": 10**9}}}), "100,000"),
        (json.dumps({**PUBLISHED, "config": {"data": {"name": LONG}}}), "200 characters"),
        (json.dumps({**PUBLISHED, "format": "other"}), "'other'"),
        (fifo, "a pipe or a device"),
        (device, "a pipe or a device"),
        (folder, "a folder"),
        (huge, "10,000,000"),
    ],
    ids=map(str, range(17)),
)
def test_a_published_experiment_of_another_shape_is_refused(content, part, tmp_path):
    put(tmp_path / "about.json", content)
    with pytest.raises(ConfigError) as refused:
        read_published(tmp_path)
    assert "about.json" in str(refused.value) and part in str(refused.value)
    assert len(str(refused.value)) <= MOST_CHARACTERS


def test_an_alias_that_stands_for_little_is_read(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("pretrain: &same {lr: 0.2, epochs: 3}\ntrain:\n  <<: *same\n  epochs: 4\n")
    config = load(path, environment={})
    assert (config.pretrain.lr, config.pretrain.epochs, config.train.lr, config.train.epochs) == (0.2, 3, 0.2, 4)


def test_values_that_mean_the_same_do_not_contradict_each_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = (
        "--method pfk_true --ratio 10 --set acquisition.pseudo_label=true --set bias.ratio=10.0 --set train.lr=0.1"
    )
    result = CliRunner().invoke(
        app, ["config", "--preset", "digits", *arguments.split(), "--set", "train={lr: 1.0e-1}"]
    )
    assert result.exit_code == 0, result.output
    config = yaml.safe_load(result.stdout)
    assert (config["acquisition"]["pseudo_label"], config["bias"]["ratio"], config["train"]["lr"]) == (
        "true",
        10.0,
        0.1,
    )


@pytest.mark.parametrize("dataset", list(presets()))
def test_what_grid_prints_plan_takes(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = yaml.safe_load(preset(dataset).read_text(encoding="utf-8"))
    ratios = ["1"] if settings["bias"]["kind"] == "none" else ["1", "10.5"]
    layer = settings["acquisition"]["taps"][-1]
    own = ["--ratio", ",".join(ratios), "--method", f"random,pcc@{layer},varr:e2:k4"]
    if dataset == "folder":
        own += ["--folder", 'my "photos": 1 # 2']
    arguments = [*own, "--seeds", "0-1,7"]
    printed = CliRunner().invoke(app, ["grid", "--dataset", dataset, *arguments])
    assert printed.exit_code == 0, printed.output
    Path("params.yaml").write_text(printed.stdout)
    assert CliRunner().invoke(app, ["plan"]).stdout == f"data/plan: {3 * len(ratios)} cells\n"
