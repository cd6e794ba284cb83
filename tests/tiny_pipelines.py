"""Untrained pipelines of diffusers, small enough to sample in a fraction of a second and built without a download."""

import json

import diffusers
import torch

WORDS = ("a", "red", "blue", "square", "circle")


def unet(size=8, channels=1):
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(16,),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        add_attention=False,
    ).eval()


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def ddpm(**settings):
    return quiet(diffusers.DDPMPipeline(unet(), diffusers.DDPMScheduler(**settings)))


def ddim(**settings):
    return quiet(diffusers.DDIMPipeline(unet(), diffusers.DDIMScheduler(**settings)))


def vae(**settings):
    torch.manual_seed(1)
    return diffusers.AutoencoderKL(
        latent_channels=4,
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=16,
        **settings,
    ).eval()


def dit():
    torch.manual_seed(2)
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        sample_size=8,
        patch_size=2,
        norm_num_groups=4,
        num_embeds_ada_norm=1000,
    ).eval()
    # a fresh DiT says nothing of its input: its last layer begins at 0
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return quiet(diffusers.DiTPipeline(transformer, vae(), diffusers.DDIMScheduler()))


def text_encoder(tmp_path):
    """CLIP with a vocabulary of a few words."""
    import transformers

    tokens = ["<|startoftext|>", "<|endoftext|>"]
    letters = sorted(set("".join(WORDS)))
    tokens += letters + [letter + "</w>" for letter in letters] + [f"{word}</w>" for word in WORDS if len(word) > 1]
    (tmp_path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path, model_max_length=16)
    torch.manual_seed(3)
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=1,
        projection_dim=16,
    )
    return tokenizer, config


def stable_diffusion(tmp_path, scheduler=None):
    import transformers

    tokenizer, config = text_encoder(tmp_path)
    torch.manual_seed(4)
    model = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=16,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()
    return quiet(
        diffusers.StableDiffusionPipeline(
            vae(),
            transformers.CLIPTextModel(config).eval(),
            tokenizer,
            model,
            scheduler or diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    )


def stable_diffusion_3(tmp_path):
    import transformers

    tokenizer, config = text_encoder(tmp_path)
    torch.manual_seed(5)
    encoders = [transformers.CLIPTextModelWithProjection(config).eval() for _ in range(2)]
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        out_channels=4,
    ).eval()
    return quiet(
        diffusers.StableDiffusion3Pipeline(
            transformer=transformer,
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=vae(scaling_factor=1.5, shift_factor=0.1),
            text_encoder=encoders[0],
            tokenizer=tokenizer,
            text_encoder_2=encoders[1],
            tokenizer_2=tokenizer,
            text_encoder_3=None,
            tokenizer_3=None,
        )
    )
