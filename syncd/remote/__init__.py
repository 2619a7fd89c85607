"""Other hosts over SSH: look at them, restart them, update them.

commands.py says what is run there, as text; connecting.py logs in; running.py runs it, with a deadline; fleet.py does
it on many hosts at once; answers.py makes one answer of many. Only connecting.py and running.py know paramiko.
"""
