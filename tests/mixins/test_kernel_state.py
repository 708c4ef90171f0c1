"""What a checkpoint keeps of a kernel layer, and what is said when the data are no longer those it was made of."""

import warnings

import pytest
import torch
from kernel_toys import Net, fit, loader, logits_of, rows, seeded
from lightning.pytorch.callbacks import ModelCheckpoint
from tiny import quiet_trainer


class Saved(Net):
    """A Net whose options are saved."""

    def __init__(self, **options):
        super().__init__(**options)
        self.save_hyperparameters()


def _checkpoints(folder, **options):
    return {"enable_checkpointing": True, "callbacks": [ModelCheckpoint(folder, save_top_k=-1, **options)]}


def _fitted(folder, epochs=2, **options):
    model = seeded(Saved, kernel="polynomial", kernel_options={"degree": 3}, kernel_landmarks=9, **options)
    trainer = fit(model, folder, max_epochs=epochs, **_checkpoints(folder))
    return model, trainer.checkpoint_callback.best_model_path


def test_a_checkpoint_is_loaded_without_a_trainer(tmp_path):
    model, path = _fitted(tmp_path)
    loaded = Saved.load_from_checkpoint(path)
    assert torch.equal(logits_of(loaded), logits_of(model))
    assert loaded.kernel.landmarks == model.kernel.landmarks
    assert loaded.kernel_figures == model.kernel_figures
    assert dict(loaded.hparams)["kernel"] == "polynomial"
    assert loaded.last.in_features == 9


def test_weights_alone_are_enough(tmp_path):
    model, path = _fitted(tmp_path)
    loaded = seeded(Saved, seed=5, kernel="polynomial", kernel_options={"degree": 3}, kernel_landmarks=9)
    loaded.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    assert torch.equal(logits_of(loaded), logits_of(model))


@pytest.mark.parametrize("refresh", ["epoch", "never", 2])
def test_resumed_is_uninterrupted(refresh, tmp_path):
    """A batch an epoch, so that a step is as good as another to stop at."""
    whole, resumed = (seeded(Saved, seed=seed, kernel_refresh=refresh) for seed in (0, 9))
    saves = {**_checkpoints(tmp_path), "max_epochs": 6}
    quiet_trainer(tmp_path, **saves).fit(whole, loader(batch_size=36))
    path = tmp_path / "epoch=2-step=3.ckpt"
    quiet_trainer(tmp_path, **saves).fit(resumed, loader(batch_size=36), ckpt_path=path)
    assert resumed.losses == whole.losses[3:]
    assert torch.equal(logits_of(resumed), logits_of(whole))


def test_a_second_fit_keeps_the_landmarks_and_reads_them_anew(tmp_path):
    model, _ = _fitted(tmp_path)
    ids, before = [each.example_id for each in model.kernel.landmarks], model.kernel.features.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", message=".*(does not have many workers|accelerator|num_workers).*")
        fit(model, tmp_path, max_epochs=1)
    assert [each.example_id for each in model.kernel.landmarks] == ids
    assert not torch.equal(model.kernel.features, before)


def test_changed_rows_are_said_and_read_anew(tmp_path):
    model, path = _fitted(tmp_path, kernel_refresh="never")
    chosen = model.kernel.landmarks[0].example_id
    data = [row | {"x": row["x"] + 1} if int(row["example_id"]) == chosen else row for row in rows()]
    loaded = Saved.load_from_checkpoint(path)
    with pytest.warns(UserWarning, match=rf"1 landmarks are read as other inputs .*\(ids {chosen}\)"):
        fit(loaded, tmp_path, data, max_epochs=1, limit_train_batches=1)
    inputs = {int(row["example_id"]): row["x"] for row in data}
    read = torch.tanh(model.first(torch.stack([inputs[each.example_id] for each in model.kernel.landmarks])))
    assert torch.allclose(loaded.kernel.features, read, atol=1e-6)
    assert loaded.kernel.landmarks[0].digest != model.kernel.landmarks[0].digest


def test_landmarks_that_are_gone_stay_as_they_were(tmp_path):
    model, path = _fitted(tmp_path)
    gone = model.kernel.landmarks[3].example_id
    loaded = Saved.load_from_checkpoint(path)
    with pytest.warns(UserWarning, match=rf"1 landmarks are no longer .*\(ids {gone}\)"):
        fit(loaded, tmp_path, [row for row in rows() if int(row["example_id"]) != gone])
    assert torch.equal(loaded.kernel.features[3], model.kernel.features[3])
    assert not torch.equal(loaded.kernel.features[4], model.kernel.features[4])


def test_the_checkpoint_of_another_kernel_is_refused(tmp_path):
    _, path = _fitted(tmp_path)
    with pytest.raises(ValueError, match="kernel='polynomial'"):
        Saved.load_from_checkpoint(path, kernel="linear", kernel_options=None, strict=False)
