"""The command `ua-vp`: a module per group of commands, each imported only when its command is called."""
