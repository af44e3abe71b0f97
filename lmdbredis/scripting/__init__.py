"""Scripts: Lua 5.1 in a sandbox, and what passes between it and the commands.

`scripts` keeps the texts and reads their shebang lines; `runtime` owns the Lua state and runs them; `convert` turns replies into
Lua values and what a script returns into a reply; `bytecode` keeps the frames of tail calls. The ``.lua`` files are the
sandbox and the libraries of Redis (cjson, cmsgpack, struct, bit), in plain Lua: what needs no Python cannot leak any.

Laws:

1. Python never raises into Lua, and never hands it an object: strings, numbers, booleans and tables only.
2. Lua never sees Python's errors: what a handler raises, other than a refusal, ends the script past every pcall and is raised
   again by whoever ran it.
3. Lua's memory has a limit that only Lua's own code can meet: before anything crosses, there is room for it.
4. The Lua state is made when the first script comes; who runs none pays for none.
"""
