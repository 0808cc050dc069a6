"""Learn handwritten digits: a picture of reconstructions, and a classifier on features.

python examples/classify_digits.py EPOCHS FOLDER           (needs scikit-learn, which ships them)
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import caecodec


def main(epochs: str, folder: Path) -> None:
    """Print the accuracies of one classifier on raw pixels and on features."""
    data, model = load_digits(), folder / "digits.safetensors"
    small = [Image.fromarray((16.0 * digit).clip(0, 255).astype(np.uint8)) for digit in data.images]
    digits = [np.array(digit.resize((28, 28), Image.Resampling.BICUBIC)) for digit in small]
    learn, test, learn_labels, test_labels = train_test_split(digits, data.target, random_state=0)
    (folder / "digits").mkdir(parents=True)
    for number, digit in enumerate(learn):
        Image.fromarray(digit).save(folder / "digits" / f"{number:04}.png")
    command = [sys.executable, "-m", "caecodec", "train", folder / "digits", "--out", model]
    options = "--arch classic --color gray --channels 64,32,12 --crop-size 32 --no-flips --epochs"
    subprocess.run([*command, *options.split(), epochs], check=True)  # noqa: S603 - our own
    features = [caecodec.features(digit, model=model) for digit in (*learn, *test)]
    for name, numbers in (("raw pixels", [*learn, *test]), ("features", features)):
        rows = np.reshape(numbers, (len(numbers), -1)) / np.std(numbers)
        classifier = LogisticRegression(max_iter=2000).fit(rows[: len(learn)], learn_labels)
        accuracy = classifier.score(rows[len(learn) :], test_labels)
        print(f"{name}: {rows.shape[1]} numbers an image, accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
