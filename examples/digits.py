"""Steer a small diffusion model of handwritten digits to a class.

python examples/digits.py
"""

from smcgen.diffusion import Gaussian, edm, steer
from smcgen.diffusion.nets import ConvClassifier, MLPClassifier, VectorDenoiser
from smcgen.resampling import Every
from smcgen.shipped import shipped

denoiser = VectorDenoiser.from_pretrained(shipped("digits-denoiser"))
classifier = MLPClassifier.from_pretrained(shipped("digits-classifier"))
judge = ConvClassifier.from_pretrained(shipped("digits-judge"))  # has no part in the steering

kernel = Gaussian(denoiser, edm(40, sigma_max=20, sigma_min=0.02, rho=5), (64,), predicts="data")
sevens = lambda x: classifier(x).log_softmax(1)[:, 7]

for name, options in {
    "best of 8": {"twist": None},
    "8 particles, resampled at every 2nd step": {"resampling": Every(2)},
}.items():
    result = steer(kernel, sevens, n_particles=8, key=3, **options)
    judged = judge(result.data).argmax(1).tolist()
    print(name, result, f"the judge sees {judged}", sep="\n  ")

picture = (result.best / 2 + 0.5).clamp(0, 1).reshape(8, 8).numpy()
for row in picture:
    print("".join(" .:-=+*#@"[int(8 * ink)] * 2 for ink in row))
