"""Where cases come from: every data set becomes a list of cases that can be read one at a time."""
