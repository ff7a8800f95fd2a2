"""The model card says what a user must know."""

from __future__ import annotations

from dataclasses import replace

import yaml

from DiffMaCore.bundles.config import RESEARCH_ONLY, BundleConfig
from DiffMaCore.bundles.writing import card_text


def test_the_card_states_data_licence_limits_and_research_only(config: BundleConfig) -> None:
    text = card_text(config)
    for part in (RESEARCH_ONLY, "phantoms", "it is tiny", "made by a test", "-1000 to 1000 HU", "224 mm"):
        assert part in text


def test_the_front_matter_is_yaml_that_hubs_read(config: BundleConfig) -> None:
    front = yaml.safe_load(card_text(config).split("---")[1])
    assert front["license"] == "mit" and "research-only" in front["tags"]
    odd = replace(config, card=replace(config.card, licence='own: "terms"'), anatomy="no: body")
    front = yaml.safe_load(card_text(odd).split("---")[1])
    assert front["license"] == "other" and front["license_name"] == 'own: "terms"' and "no: body" in front["tags"]


def test_a_demo_is_called_demo_in_its_title(config: BundleConfig) -> None:
    heading = next(line for line in card_text(replace(config, demo=True)).splitlines() if line.startswith("# "))
    assert "DEMO" in heading


def test_an_incomplete_bundle_says_so(config: BundleConfig) -> None:
    assert "diffma models complete tiny --vae FOLDER" in card_text(replace(config, missing=("vae",)))
