"""A plan: all settings of a run, typed and frozen, from Python keywords or from YAML.

This module does not import torch, so that the command line prints its help quickly.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from cifar_lab.errors import UserError
from cifar_lab.files import shown
from cifar_lab.recipes import LIMITS, Recipe, find_recipe, is_recipe_file, recipe_name, recipes
from cifar_lab.recipes.own_model import is_own_model, name_of
from cifar_lab.run_settings import RUN, RunSettings
from cifar_lab.settings import ALIASES, MISSING, canonical, check_values

# What to use here, a setting or a sentence, and names for it in Lightning and other programs.
ELSEWHERE = {
    "accelerator": "device cpu cuda gpu no_cuda use_cuda use_gpu",
    "accumulate_grad_batches": "accum_steps accumulation_steps gradient_accumulation_steps",
    "augment": "augmentation augmentations data_augmentation transform transforms",
    "batch_size": "batch bs per_device_train_batch_size train_batch_size",
    "batchnorm": "batch_norm bn norm",
    "config": "cfg config_file",
    "data_dir": "data data_path data_root dataset dataset_path root",
    "devices": "gpu_ids gpus n_gpus ngpus nproc_per_node num_gpus",
    "dropout": "drop drop_rate dropout_p dropout_rate",
    "eval_every": "eval_interval eval_steps val_check_interval val_every",
    "fast_dev_run": "debug dry_run dev_run",
    "gradient_clip_val": "clip clip_grad clip_grad_norm grad_clip max_grad_norm",
    "hidden_units": "hidden hidden_dim hidden_dims hidden_layers hidden_size hidden_sizes layers",
    "label_smoothing": "smoothing",
    "log_dir": "default_root_dir logdir out_dir output_dir save_dir",
    "log_every": "log_every_n_steps log_freq log_interval logging_steps",
    "logger": "use_wandb wandb",
    "lr": "base_lr eta step_size",
    "max_epochs": "epoch epochs n_epochs nb_epochs num_epochs num_train_epochs",
    "max_steps": "iterations iters max_iter max_iters n_steps num_iters num_steps steps",
    "model": "arch architecture model_name net network",
    "num_nodes": "nnodes nodes",
    "optimizer": "opt optim optimiser",
    "precision": "amp bf16 dtype fp16 mixed_precision",
    "resume": "checkpoint ckpt ckpt_path load_from_checkpoint resume_from resume_from_checkpoint",
    "seed": "manual_seed random_seed random_state rng seed_everything",
    "threads": "cpus n_jobs num_threads",
    "val_size": "val_fraction val_ratio val_split validation_split",
    "weight_decay": "decay l2 wd",
    "each model has its own activation function; --model MODULE:CLASS trains your own model": (
        "act activation activation_fn activation_function nonlinearity"
    ),
    "each model has its own schedule; --model MODULE:CLASS trains your own model": (
        "lr_schedule lr_scheduler schedule scheduler"
    ),
    "batches come from memory, without workers; --threads sets the CPU threads": (
        "n_workers num_workers"
    ),
}
SERVES = {name: ours for ours, names in ELSEWHERE.items() for name in names.split()}
# Decisive settings that may differ between a run and the report's system: they change only random
# numbers and rounding.
OF_ANY_SYSTEM = {"seed", "eval_every", "log_every", "accelerator", "precision", "deterministic"}


@dataclass(frozen=True)
class Plan:
    """All settings of a run, checked.

    Attributes:
        settings: settings of the run.
        model_settings: keyword arguments of the model's class, without the number of classes.
        recipe: recipe that the settings started from.
    """

    settings: RunSettings
    model_settings: dict[str, Any] = field(hash=False)
    recipe: Recipe = field(compare=False, repr=False)

    @property
    def own_model(self) -> str | None:
        """``module:Class`` of the user's own model, or None for one of the package's."""
        return self.settings.model if is_own_model(self.settings.model) else None

    @classmethod
    def of(cls, model: str | type | None = None, **settings: Any) -> Plan:
        """Make a plan from keywords, with the names of the flags.

        Args:
            model: name of a model, ``module:Class`` or the class of a model of your own; the
                default is that of the recipe, or "cnn".
            settings: settings of the run and of the model, and ``recipe``.

        Raises:
            UserError: A name is unknown or a value does not have its type.
        """
        if isinstance(model, type):
            model = name_of(model)
        named = {} if model is None else {"model": model}
        return cls.layered([({**named, **settings}, "")])

    @classmethod
    def layered(cls, layers: Iterable[tuple[Mapping[str, Any], str]]) -> Plan:
        """Make a plan from a recipe and layers of settings; a later layer overrides an earlier one.

        A layer is a mapping from names to values, as text or plain values, and the prefix of names
        in error messages.
        """
        layers = [({canonical(n): v for n, v in values.items()}, o) for values, o in layers]
        named: dict[str, Any] = {}
        told = {"model": "model", "recipe": "recipe"}
        for values, origin in layers:
            for name in told.keys() & values.keys():
                named[name], told[name] = values[name], f"{origin}{name}"
        recipe = find_recipe(named.get("recipe"), named.get("model"), told)
        found = _defaults(recipe)
        for values, origin in layers:
            found.update(_checked(values, recipe, origin))
        return cls._of_values(found, recipe)

    @classmethod
    def from_config(cls, values: Mapping[str, Any], origin: str, model: str | None = None) -> Plan:
        """Make a plan from the content of the ``config.yaml`` of a run.

        It may come from a stranger, so a user's own model is imported only if ``model`` names it.
        """
        named, name = values.get("model"), values.get("recipe")
        if is_own_model(named) and model != named:
            raise UserError(f"{origin}a model of your own: give --model {shown(named)}")
        told = {"model": f"{origin}model", "recipe": f"{origin}recipe"}
        if is_recipe_file(name):  # not read: all its settings are in config.yaml
            recipe = find_recipe(None, named, told)
            recipe = dataclasses.replace(recipe, name=str(name), report_accuracy=None)
        else:
            recipe = find_recipe(name, named, told)
        return cls._of_values({**_defaults(recipe), **_checked(values, recipe, origin)}, recipe)

    @classmethod
    def _of_values(cls, values: Mapping[str, Any], recipe: Recipe) -> Plan:
        values = {**values, "recipe": recipe.name, "model": recipe.model}
        for name in recipe.own:
            if name in RUN:
                raise UserError(
                    f"{recipe.model}: its setting {name} is one of every run; rename it"
                )
            if name not in values:
                raise UserError(f"--{name}: {recipe.model} needs a value for it")
        if not any(values.get(limit) for limit in LIMITS):
            raise UserError(f"{recipe.model}: give --max_steps or --max_epochs")
        run = RunSettings(**{name: values[name] for name in RUN})
        return cls(run, {name: values[name] for name in recipe.own}, recipe)

    def replace(self, **settings: Any) -> Plan:
        """Return a plan with other settings; a new length of the run replaces the old one.

        Raises:
            UserError: A name is unknown or a value does not have its type.
        """
        return self.changed(settings, "")

    def changed(self, values: Mapping[str, Any], origin: str) -> Plan:
        """Do the same as :meth:`replace`; ``origin`` is the prefix of names in error messages."""
        new = _checked(values, self.recipe, origin)
        for name, fixed in (("model", self.recipe.model), ("recipe", self.recipe.name)):
            if recipe_name(new.get(name) or fixed) != fixed:
                raise UserError(f"{origin}{name} {new[name]}: cannot replace {fixed}; leave it out")
        return Plan._of_values({**self.as_config(), **new}, self.recipe)

    def as_config(self) -> dict[str, Any]:
        """Return all settings as a flat dictionary, as in a configuration file."""
        return {**vars(self.settings), **self.model_settings}

    def as_yaml(self) -> str:
        """Return all settings as a YAML text, which ``--config`` takes."""
        return yaml.safe_dump(self.as_config(), sort_keys=False, default_flow_style=None)

    def changes(self) -> dict[str, Any]:
        """Return the settings that differ from those of the recipe."""
        usual = {**_defaults(self.recipe), "model": self.recipe.model, "recipe": self.recipe.name}
        return {
            name: value
            for name, value in self.as_config().items()
            if value != usual.get(name, MISSING) and (value is not None or name not in LIMITS)
        }

    def as_call(self) -> str:
        """Return the Python call that starts a run with these settings."""
        named = {} if self.recipe.name == self.recipe.model else {"recipe": self.recipe.name}
        parts = [f"{name}={value!r}" for name, value in {**named, **self.changes()}.items()]
        return f"cifar_lab.fit({', '.join([repr(self.recipe.model), *parts])})"

    @property
    def report_accuracy(self) -> float | None:
        """The accuracy, a fraction, of this system in the report; None if the settings differ."""
        changed = {name for name in self.changes() if name not in RUN or RUN[name].decisive}
        if self.settings.val_size == 0:  # the report's protocol
            changed.discard("val_size")
        return None if changed - OF_ANY_SYSTEM else self.recipe.report_accuracy

    def decisive(self) -> dict[str, str]:
        """Return the settings that decide the numbers of a run; see :func:`decisive`."""
        return decisive(self.as_config())


def decisive(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that decide the numbers of a run, as text: 1 and 1.0 differ.

    Settings that an older version did not write into ``config.yaml`` have their default values.
    """
    whole = {**{name: entry.default for name, entry in RUN.items()}, **config}
    harmless = {name for name, entry in RUN.items() if not entry.decisive}
    return {name: repr(value) for name, value in whole.items() if name not in harmless}


def _checked(values: Mapping[str, Any], recipe: Recipe, origin: str) -> dict[str, Any]:
    """Check names and values; of the two lengths of a run, one replaces the other."""
    known = {**RUN, **recipe.own}
    for name in values:
        if name not in known:
            raise UserError(unknown_setting(name, known, recipe.model, origin))
    found = check_values(values, known, origin)
    steps, epochs = (found.pop(limit, None) for limit in LIMITS)
    if steps is not None and epochs is not None:
        raise UserError(f"{origin}max_steps {steps} and {origin}max_epochs {epochs}: give one")
    if steps is None and epochs is None:
        return found
    return {**found, "max_steps": steps, "max_epochs": epochs}


def unknown_setting(name: str, known: Iterable[str], model: str, origin: str) -> str:
    """Return the error message for a name that is not a setting of a model."""
    owners = {other.model for other in recipes().values() if name in other.own}
    if owners:
        return f"{origin}{name}: a setting of {', '.join(sorted(owners))}, not of {model}"
    known = [*known, *(alias for alias, name in ALIASES.items() if name in known)]
    served = SERVES.get(name, "")
    near = [served] if served in known else difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {origin}{near[0]}?" if near else "--help lists all"
    if " " in served:
        hint = served
    return f"{origin}{shown(name)}: unknown; {hint}"


def _defaults(recipe: Recipe) -> dict[str, Any]:
    known = {**RUN, **recipe.own}
    usual = {name: v.default for name, v in known.items() if v.default is not MISSING}
    return usual | _checked(recipe.settings, recipe, f"recipe {shown(recipe.name)}: ")
