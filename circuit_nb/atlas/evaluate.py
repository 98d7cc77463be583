"""`python -m circuit_nb.atlas.evaluate`: see `circuit_nb.atlas.making.evaluate`."""

from circuit_nb.atlas.making.evaluate import main

if __name__ == "__main__":
    main()
