"""Call recordings: the URLs that Planfix is given and the files behind them."""
