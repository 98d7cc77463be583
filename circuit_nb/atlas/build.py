"""`python -m circuit_nb.atlas.build`: see `circuit_nb.atlas.making.build`."""

from circuit_nb.atlas.making.build import main

if __name__ == "__main__":
    main()
