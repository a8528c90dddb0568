"""What of the Helm chart is made from code: its values, their schema, the table in its README, the rules of its roles
and the dashboards. `make crds` writes them; no image carries this package.
"""
