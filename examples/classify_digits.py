"""Learn handwritten digits: a picture of reconstructions, and a classifier on features.

python examples/classify_digits.py EPOCHS FOLDER           (needs scikit-learn, which ships them)
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn import datasets, linear_model, model_selection

import caecodec


def main(epochs: str, folder: Path) -> None:
    """Print the accuracies of one classifier on raw pixels and on features."""
    data, model = datasets.load_digits(), folder / "digits.safetensors"
    digits = [np.array(Image.fromarray(np.uint8(15.9 * x)).resize((28, 28))) for x in data.images]
    parts = model_selection.train_test_split(digits, data.target, random_state=0)
    learn, test, learn_labels, test_labels = parts
    (folder / "digits").mkdir(parents=True)
    for number, digit in enumerate(learn):
        Image.fromarray(digit).save(folder / "digits" / f"{number:04}.png")
    options = ["--arch", "classic", "--color", "gray", "--channels", "64,32,12", "--no-flips"]
    options += ["--crop-size", "32", "--epochs", epochs, "--out", model, folder / "digits"]
    subprocess.run([sys.executable, "-m", "caecodec", "train", *options], check=True)  # noqa: S603 - our own
    features = [caecodec.features(digit, model=model) for digit in (*learn, *test)]
    for name, numbers in {"raw pixels": [*learn, *test], "features": features}.items():
        rows = np.reshape(numbers, (len(numbers), -1)) / np.std(numbers)
        classifier = linear_model.LogisticRegression(max_iter=2000)
        classifier.fit(rows[: len(learn)], learn_labels)
        accuracy = classifier.score(rows[len(learn) :], test_labels)
        print(f"{name}: {rows.shape[1]} numbers an image, accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
