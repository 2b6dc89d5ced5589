"""Worker of `benchmarks.peers` in PyTorch: a training step of Att2in2, or a captioner.

This file imports only PyTorch, Transformers and Pillow. It downloads nothing: all weights are
random, which does not change the time of captions of a fixed length.
"""

import argparse
import json
import sys
import types

from benchmarks.workers import serve


def make(step=None, captioner=None):
    """Build a step or a captioner. The arguments are those of `make_step` or `make_captioner`."""
    import torch

    torch.manual_seed(0)
    if step:
        return {"step": make_step(**step)}, {}
    return make_captioner(**captioner)


def make_step(checkout, images, captions, regions, words, steps, width, dtype):
    """Return a function that trains Att2in2 on one batch, and waits for the result.

    The model and its loss are imported from a checkout of ruotianluo/ImageCaptioning.pytorch. The
    step is that of its `tools/train.py`: the loss, the gradients, clipping of their values, Adam.
    """
    import torch

    sys.path.insert(0, checkout)
    # The module of rewards needs a submodule with CIDEr, which this loss does not use.
    rewards = types.ModuleType("captioning.utils.rewards")
    rewards.get_scores = rewards.get_self_cider_scores = None
    sys.modules[rewards.__name__] = rewards
    from captioning.models.AttModel import Att2in2Model
    from captioning.modules.losses import LanguageModelCriterion

    sizes = dict.fromkeys(
        ("input_encoding_size", "rnn_size", "fc_feat_size", "att_feat_size", "att_hid_size"), width
    )
    # The model has one more word than `vocab_size`.
    options = {"vocab_size": words - 1, "num_layers": 1, "drop_prob_lm": 0.5, "vocab": {}}
    model = Att2in2Model(argparse.Namespace(**sizes, **options, max_length=steps))
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
    criterion = LanguageModelCriterion()
    features = torch.randn(images, width), torch.randn(images, regions, width)
    labels = torch.randint(4, words, (images, captions, steps + 1))
    mask = torch.ones(images, captions, steps + 1)

    def step():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            log_probs = model(*features, labels[..., :-1], None)
            loss = criterion(log_probs, labels[..., 1:], mask[..., 1:])
        loss.backward()
        torch.nn.utils.clip_grad_value_(model.parameters(), 0.1)
        optimizer.step()
        return loss.item()

    return step


def make_captioner(name, image, beams, words):
    """Return a function for each beam size that captions an image file, and facts of the model.

    The functions read the file, compute the pixels as the published image processor does, and
    search. They do not convert the word ids to text.

    Args:
        name: A key of `CAPTIONERS`.
        image: Path of the file.
        beams: Beam sizes.
        words: Number of generated words.
    """
    import io

    import numpy as np
    import PIL.Image
    import torch

    make, side, mean, deviation = CAPTIONERS[name]
    model = make().eval()
    with open(image, "rb") as file:
        content = file.read()

    def pixels():
        photo = PIL.Image.open(io.BytesIO(content)).convert("RGB")
        array = np.asarray(photo.resize((side, side), PIL.Image.BICUBIC), "float32") / 255
        array = (array - np.array(mean, "float32")) / np.array(deviation, "float32")
        return torch.from_numpy(array.transpose(2, 0, 1).copy())[None]

    def caption(beam):
        with torch.inference_mode():
            ids = model.generate(
                pixel_values=pixels(),
                num_beams=beam,
                do_sample=False,
                min_new_tokens=words,
                max_new_tokens=words,
            )
        return ids.tolist()

    parameters = list(model.parameters())  # tied weights count once
    facts = {
        "parameters": sum(weight.numel() for weight in parameters),
        "megabytes": sum(weight.numel() * weight.element_size() for weight in parameters) / 1e6,
    }
    return {str(beam): (lambda beam=beam: caption(beam)) for beam in beams}, facts


def make_blip():
    """Build BLIP-base as in the configuration of Salesforce/blip-image-captioning-base."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    text = {"vocab_size": 30524, "num_attention_heads": 12, "encoder_hidden_size": 768}
    text |= {"bos_token_id": 30522, "sep_token_id": 102, "pad_token_id": 0}
    vision = {"image_size": 384, "patch_size": 16}
    return BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision))


def make_git():
    """Build GIT-base as in the configuration of microsoft/git-base."""
    from transformers import GitConfig, GitForCausalLM

    vision = {"image_size": 224, "patch_size": 16}
    return GitForCausalLM(GitConfig(vision_config=vision, num_hidden_layers=6))


def make_vit_gpt2():
    """Build ViT-GPT2 as in the configuration of nlpconnect/vit-gpt2-image-captioning."""
    from transformers import (
        GPT2Config,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
        ViTConfig,
    )

    decoder = GPT2Config(add_cross_attention=True, is_decoder=True)
    both = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(), decoder)
    model = VisionEncoderDecoderModel(both)
    generation = model.generation_config
    generation.decoder_start_token_id = generation.bos_token_id = 50256
    generation.eos_token_id = generation.pad_token_id = 50256
    return model


CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
# For each captioner: the function that builds it, the side of its input, mean and deviation.
CAPTIONERS = {
    "BLIP-base": (make_blip, 384, *CLIP),
    "GIT-base": (make_git, 224, *CLIP),
    "ViT-GPT2": (make_vit_gpt2, 224, *HALF),
}

if __name__ == "__main__":
    serve(lambda: make(**json.loads(sys.argv[1])))
