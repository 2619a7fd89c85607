"""OCR engines behind one small port, run in a child process.

engine.py      the port that an engine implements        contract.py   the tests that it passes
found.py       engines by name, through entry points      documents.py  images and PDFs -> page images
tesseract.py, google_vision.py, null.py                    the engines that come along
runner.py, child.py, messages.py                           an engine in a process of its own: ports.Recognizer

Nothing here is imported before it is used: Pillow, pypdfium2 and an engine's own libraries are loaded in the child.
"""
