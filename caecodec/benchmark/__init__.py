"""The benchmark: real files of every codec, their rate, distortion and time."""
