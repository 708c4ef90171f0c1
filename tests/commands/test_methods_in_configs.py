"""Every method in a configuration: by its name, and by its class with options of every kind."""

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_interpret.methods import METHODS

QUICK = {
    "expected_gradients": {"samples": 4, "seed": 3},
    "kernel_shap": {"samples": 20, "unit": "word"},
    "lime": {"samples": 20, "kernel_width": 1, "baseline": "mask"},
    "occlusion": {"unit": "window", "window": 3, "stride": 2},
    "sequential_integrated_gradients": {"steps": 2, "tolerance": None, "unit": "word"},
    "smooth_grad": {"samples": 2, "baseline": "text: the food"},
    "taylor": {"at": "baseline", "baseline": "text: 3 stars"},
    "deep_lift": {"baseline": {"kind": "zero"}},
    "integrated_gradients": {
        "steps": 2,
        "baseline": {"class_path": "lightning_interpret.Baseline", "init_args": {"kind": "pad", "keep_special": False}},
    },
}
OTHERS = {
    "occlusion": {"unit": "window", "window": [2, 3], "stride": [1, 2]},
    "smooth_grad": {"mode": "variance", "norm": "mean_abs", "sigma": 0.3, "baseline": None},
    "layer_cam": {"repaired": True, "baseline": "zero"},
    "gradient": {"norm": "mean_abs"},
}


def monitor(method, name, **options):
    return {
        "class_path": "lightning_interpret.SaliencyMonitor",
        "init_args": {"method": method, "name": name, "probes": 1, **options},
    }


def by_class(name, options):
    return {"class_path": f"lightning_interpret.{METHODS[name].__name__}", "init_args": options}


@pytest.fixture
def config(saved, tmp_path):
    """Write a configuration with some Monitors and return its path."""

    def config(monitors):
        logger = {
            "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
            "init_args": {"save_dir": str(tmp_path), "name": "run", "version": 0},
        }
        brief = {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 1, "accelerator": "cpu"}
        quiet = {"enable_progress_bar": False, "enable_model_summary": False}
        written = {
            "trainer": {**brief, **quiet, "logger": logger, "callbacks": monitors},
            "model": {"model": saved.model},
            "data": {"train_file": saved.train, "val_file": saved.val, "batch_size": 4},
        }
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(written))
        return path

    return config


def test_every_method_runs_in_one_fit(command, config, tmp_path):
    monitors = [monitor(by_class(name, QUICK.get(name, {})), name, references=3) for name in METHODS]
    done = command("fit", "--config", config(monitors))
    assert done.status == 0, done.err
    events = EventAccumulator(str(tmp_path / "run" / "version_0")).Reload()
    failures = {name: events.Scalars(f"interpret/{name}/failures")[-1].value for name in METHODS}
    assert failures == dict.fromkeys(METHODS, 0)


@pytest.mark.parametrize("how", ["name", "class", "options"])
def test_every_method_is_read_from_a_configuration(command, config, how):
    named = OTHERS if how == "options" else METHODS
    methods = {name: name if how == "name" else by_class(name, OTHERS.get(name, {})) for name in named}
    monitors = [monitor(method, name) for name, method in methods.items()]
    done = command("fit", "--config", config(monitors), "--print_config")
    assert done.status in (0, None), done.err
    read = yaml.safe_load(done.out)["trainer"]["callbacks"]
    for (name, method), callback in zip(methods.items(), read, strict=True):
        found = callback["init_args"]["method"]
        if how == "name":
            assert found == name
        else:
            assert found["init_args"].items() >= method["init_args"].items()
