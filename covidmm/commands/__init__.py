"""The commands of ``covidmm``: each module has ``add_arguments(parser)`` and ``run(args)``; work is imported late."""
