"""`python -m demo`: a real teacher goes in over HTTP, a compressed and verified student comes out.

- `data`      the images: scikit-learn's digits, or the idx files of Fashion-MNIST
- `teacher`   a plain PyTorch training loop, as a user of the service would have one
- `service`   `abdistill-server up` in a folder of its own, and its end
- `jobs`      two jobs through the client: distilled, and the same student alone
- `check`     the student, loaded with nothing but safetensors and its spec
- `table`     the comparison, for people and as one line of JSON
"""
