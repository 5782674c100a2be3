"""Real diffusers pipelines with tiny networks of seeded random weights: nothing is downloaded.

Each function builds one pipeline, of the same classes and components as the published ones (a UNet or
transformer, a VAE, text encoders, tokenizers), so that everything but the size is real.
"""

import string

import torch
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

LETTERS = string.ascii_lowercase + string.digits


def clip_tokenizer():
    names = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{c}</w>" for c in LETTERS)]
    vocab = {name: i for i, name in enumerate(names)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=16)


def t5_tokenizer():
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        ("▁", -2.0),
        *((c, -3.0) for c in LETTERS),
    ]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=16)


def _clip_text(projection=False):
    config = CLIPTextConfig(
        vocab_size=2 + 2 * len(LETTERS),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=8,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        hidden_act="gelu",
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def _t5_text():
    config = T5Config(
        vocab_size=4 + len(LETTERS), d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2
    )
    return T5EncoderModel(config).eval()


def _vae(latents=4, **options):
    return AutoencoderKL(
        block_out_channels=(4, 8),
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=latents,
        norm_num_groups=2,
        sample_size=16,
        **options,
    ).eval()


def _unet(**options):
    return UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        norm_num_groups=4,
        **options,
    ).eval()


def _quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def image_unet(channels=3):
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(4, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        norm_num_groups=2,
    ).eval()


def ddpm(**scheduler):
    return _quiet(DDPMPipeline(image_unet(), DDPMScheduler(**scheduler)))


def ddim(**scheduler):
    return _quiet(DDIMPipeline(image_unet(), DDIMScheduler(**scheduler)))


SD_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def sd_scheduler(cls=DDIMScheduler, **options):
    """As Stable Diffusion 1.5 has it; 2.1 adds `prediction_type="v_prediction"`."""
    own = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
    own = own if cls is DDIMScheduler else {"steps_offset": 1}
    return cls(**SD_BETAS, **own, **options)


def stable_diffusion(scheduler=None):
    torch.manual_seed(0)
    return _quiet(
        StableDiffusionPipeline(
            vae=_vae(),
            text_encoder=_clip_text(),
            tokenizer=clip_tokenizer(),
            unet=_unet(cross_attention_dim=8),
            scheduler=scheduler or sd_scheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    )


def stable_diffusion_xl(scheduler=None):
    torch.manual_seed(0)
    return _quiet(
        StableDiffusionXLPipeline(
            vae=_vae(force_upcast=True),
            text_encoder=_clip_text(),
            text_encoder_2=_clip_text(projection=True),
            tokenizer=clip_tokenizer(),
            tokenizer_2=clip_tokenizer(),
            unet=_unet(
                cross_attention_dim=16,
                addition_embed_type="text_time",
                addition_time_embed_dim=4,
                projection_class_embeddings_input_dim=8 + 6 * 4,
                transformer_layers_per_block=(1, 1),
                use_linear_projection=True,
            ),
            scheduler=scheduler or sd_scheduler(),
            add_watermarker=False,
        )
    )


def stable_diffusion_3(**scheduler):
    torch.manual_seed(0)
    return _quiet(
        StableDiffusion3Pipeline(
            transformer=SD3Transformer2DModel(
                sample_size=8,
                patch_size=1,
                in_channels=4,
                num_layers=1,
                attention_head_dim=4,
                num_attention_heads=2,
                joint_attention_dim=16,
                caption_projection_dim=8,
                pooled_projection_dim=16,
                out_channels=4,
                pos_embed_max_size=16,
            ).eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **scheduler}),
            vae=_vae(shift_factor=0.06, scaling_factor=1.5),
            text_encoder=_clip_text(projection=True),
            text_encoder_2=_clip_text(projection=True),
            text_encoder_3=_t5_text_wide(),
            tokenizer=clip_tokenizer(),
            tokenizer_2=clip_tokenizer(),
            tokenizer_3=t5_tokenizer(),
        )
    )


def _t5_text_wide():
    config = T5Config(
        vocab_size=4 + len(LETTERS), d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2
    )
    return T5EncoderModel(config).eval()


def flux(guidance_embeds=True, **scheduler):
    torch.manual_seed(0)
    return _quiet(
        FluxPipeline(
            transformer=FluxTransformer2DModel(
                patch_size=1,
                in_channels=16,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=8,
                num_attention_heads=1,
                joint_attention_dim=8,
                pooled_projection_dim=8,
                axes_dims_rope=(2, 2, 4),
                guidance_embeds=guidance_embeds,
            ).eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(
                **{"use_dynamic_shifting": True, **scheduler}
            ),
            vae=_vae(shift_factor=0.1, scaling_factor=0.36),
            text_encoder=_clip_text(),
            text_encoder_2=_t5_text(),
            tokenizer=clip_tokenizer(),
            tokenizer_2=t5_tokenizer(),
        )
    )
