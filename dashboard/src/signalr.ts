/** The official SignalR client behind `Open`: negotiate at the API as this viewer, then follow it to the service. */
import { type HubConnection, HubConnectionBuilder, LogLevel } from "@microsoft/signalr";
import { type Api, ApiError } from "./api.ts";
import type { Open } from "./connection.ts";

const TARGET = "newMessage";

/** Opens connections for one viewer. The API's key stays with the API: the service gets only its own token. */
export function signalR(api: Api, viewer: string): Open {
  return async (receive) => {
    const { url, accessToken } = await api.negotiate(viewer);
    const hub = new HubConnectionBuilder()
      .withUrl(url, { accessTokenFactory: () => accessToken })
      .configureLogging(LogLevel.None)
      .build();
    hub.on(TARGET, receive);
    const closed = new Promise<void>((resolve) => hub.onclose(() => resolve()));
    await start(hub);
    return { closed, close: () => void hub.stop() };
  };
}

async function start(hub: HubConnection): Promise<void> {
  try {
    await hub.start();
  } catch (error) {
    throw new ApiError("service", error instanceof Error ? error.message : String(error));
  }
}
