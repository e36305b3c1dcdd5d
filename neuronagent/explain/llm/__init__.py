"""Language models behind OpenAI-compatible servers: asked seldom, paid once, never believed without a look.

Server      an address and a model                                  server.py
Client      one HTTP request, and how it ended                      client.py (the only importer of openai)
Budget      what may be spent; Prices what it costs                 budget.py
Request     one question with its parameters; Item its answer       items.py
Asker       cache, concurrency, budget, circuit breaker             asking.py
probe       what a server really does                               probing.py
Completer   free answers in JSON, for drafting                      completion.py

asker = Asker(Client(Server.of(base_url, model)), cache=…, budget=Budget(tokens=…), prices=…)
judge = server_judge(asker, probe(asker))                           (explain/judges)
complete = Completer(asker, probe_chat(asker))
"""
