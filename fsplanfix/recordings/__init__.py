"""Call recordings: the links Planfix is given and the files behind them."""
