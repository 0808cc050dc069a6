"""The benchmark (layer 5): real files of every codec, their rate, distortion and time."""
