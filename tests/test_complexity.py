import pytest
import torch
from torch import Tensor, nn

from caecodec.config import MainConfig
from caecodec.nn.autoencoder import MainAutoencoder
from caecodec.weights.complexity import kmac_per_pixel
from caecodec.weights.storage import find_weights

CONFIGS = [
    MainConfig(),
    MainConfig(channels=24, latent_channels=32, hyper_channels=8, context_channels=16,
                encoder_blocks=1, decoder_blocks=2, latent_blocks=3, quality_anchors=3),
    MainConfig(channels=24, latent_channels=32, hyper_channels=8, context_channels=16,
                decoder_blocks=3, decoder_wide=2, block_tables=True),
]  # fmt: skip


def counted_macs(model: MainAutoencoder) -> dict[str, int]:
    """Run the float model once and count the MACs of every convolution, by top-level part."""
    counts: dict[str, int] = {}

    def hook_for(part: str) -> object:
        def hook(module: nn.Conv2d, _: object, output: Tensor) -> None:
            counts[part] = counts.get(part, 0) + module.weight[0].numel() * output[0].numel()

        return hook

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(hook_for(name.split(".")[0]))  # type: ignore[arg-type]
    with torch.inference_mode():
        model.eval()(torch.rand(1, 3, 128, 128), torch.tensor([50.0]))
    return counts


@pytest.mark.parametrize("config", CONFIGS)
def test_kmac_counts_equal_those_of_the_convolutions_that_run(config: MainConfig) -> None:
    counts = counted_macs(MainAutoencoder(config))
    shared = counts["scale_head"] + counts["mean_features"] + counts["mean_context"]
    expected_encode = shared + counts["analysis"] + counts["hyper_analysis"]
    expected_decode = shared + counts["synthesis"]
    encode, decode = kmac_per_pixel(config)
    assert encode * 1000 * 128**2 == pytest.approx(expected_encode)
    assert decode * 1000 * 128**2 == pytest.approx(expected_decode)


def test_the_main_model_decodes_within_its_budget() -> None:
    assert kmac_per_pixel(find_weights("psnr").config)[1] < 40
