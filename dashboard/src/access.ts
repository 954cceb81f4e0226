/**
 * How the page proves to the API that it may read: with the key of the address's fragment, or with a token of the
 * sign-in that config.json names. Either goes into a header of the API's requests and nowhere else: no cookie, since
 * browsers withhold cookies from an API on another site than the page.
 */
import { keyOf, type SignIn } from "./config.ts";

export interface Access {
  /** What is being shown: nothing, a key, or a token of someone who signed in. */
  shown(): "nothing" | "key" | "token";
  /** The headers that prove it; rejects where a token cannot be had. */
  headers(): Promise<Record<string, string>>;
}

const KEY_HEADER = "x-enviromon-key";

/** Access by the key in the fragment, as it is at each request. */
export function keyAccess(fragment: () => string): Access {
  return {
    shown: () => (keyOf(fragment()) === null ? "nothing" : "key"),
    headers: async () => {
      const key = keyOf(fragment());
      return key === null ? {} : { [KEY_HEADER]: key };
    },
  };
}

/** Access by signing in; `token` gives one that is valid now. */
export function tokenAccess(token: () => Promise<string>): Access {
  return {
    shown: () => "token",
    headers: async () => ({ authorization: `Bearer ${await token()}` }),
  };
}

/**
 * Signs the viewer in with Entra ID (authorization code with PKCE), leaving the page for it where need be, and returns
 * access by its tokens. Microsoft's library is loaded only here, so that a page without sign-in does not carry it.
 */
export async function signIn({ authority, clientId, scope }: SignIn): Promise<Access> {
  const { InteractionRequiredAuthError, PublicClientApplication } = await import("@azure/msal-browser");
  const client = new PublicClientApplication({
    auth: { authority, clientId, redirectUri: location.origin + location.pathname },
    cache: { cacheLocation: "sessionStorage" },
  });
  await client.initialize();
  const account = (await client.handleRedirectPromise())?.account ?? client.getAllAccounts()[0];
  const scopes = [scope];
  if (account === undefined) {
    await client.loginRedirect({ scopes });
    return new Promise(() => {}); // the browser is on its way to the sign-in
  }
  return tokenAccess(async () => {
    try {
      return (await client.acquireTokenSilent({ account, scopes })).accessToken;
    } catch (error) {
      if (error instanceof InteractionRequiredAuthError)
        await client.acquireTokenRedirect({ account, scopes });
      throw error;
    }
  });
}
