"""What the files of other targets say, in the words of ours: text in, frozen values and remarks out."""
