"""The shop's stock, as a blueprint."""

import azure.functions as func

stock = func.Blueprint()


@stock.route(route="stock/{item}/{colour?}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def in_stock(req: func.HttpRequest) -> str:
    return f"{req.route_params['item']} {req.route_params.get('colour', 'any')}"
