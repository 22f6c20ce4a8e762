// The way to the service: the token, the questions, and what a refusal means in words.

const KEPT = "holdfast.token";
const PATIENCE_MS = 10_000;

/** The service will not answer this token. */
export class Refused extends Error {}

/** Take the token out of the address, so that it is neither seen nor shared, and keep it for this tab. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given === null) return;
  keepToken(given);
  history.replaceState(null, "", location.pathname + location.search);
}

export const keepToken = (token) => sessionStorage.setItem(KEPT, token.trim());
export const forgetToken = () => sessionStorage.removeItem(KEPT);
export const hasToken = () => Boolean(sessionStorage.getItem(KEPT));

const REFUSALS = {
  401: "The service does not know this token.",
  403: "This token may not look at the cluster; one with the role read is needed.",
};

/** Ask for an object. Throws Refused, or Error where the service is away or in trouble. */
export async function ask(path) {
  const answer = await fetch(path, { headers: authorised(), cache: "no-cache", signal: AbortSignal.timeout(PATIENCE_MS) });
  if (answer.status in REFUSALS) throw new Refused(REFUSALS[answer.status]);
  if (!answer.ok) throw new Error(`the service answered ${answer.status}`);
  return answer.json();
}

/** The page of figures; it is open, and empty where the service has none. */
export async function askFigures() {
  const answer = await fetch("metrics", { cache: "no-cache", signal: AbortSignal.timeout(PATIENCE_MS) });
  return answer.ok ? answer.text() : "";
}

/** Say yes or no to what an incident wants to do; returns what became of it, in words. key: the same for every repeat. */
export async function act(verb, incident, key) {
  let answer;
  try {
    answer = await fetch("api/v1/actions", {
      method: "POST",
      headers: { ...authorised(), "Content-Type": "application/json", "Idempotency-Key": key },
      body: JSON.stringify({ verb, incident }),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
  } catch {
    return { done: false, words: "The service did not answer; it is safe to press again." };
  }
  if (answer.ok) {
    const { state, note } = await answer.json().catch(() => ({}));
    return { done: true, words: [`${verb}: ${state ?? "taken down"}`, note].filter(Boolean).join(", ") };
  }
  if (answer.status === 401) return { done: false, words: REFUSALS[401] };
  if (answer.status === 403) return { done: false, words: "This token may only look; one with the role act is needed." };
  const told = await answer.json().catch(() => ({}));
  return { done: false, words: `Refused (${answer.status}): ${told.error ?? "no reason was given"}` };
}

/** A key for one request of a person. */
export function freshKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const authorised = () => ({ Authorization: `Bearer ${sessionStorage.getItem(KEPT) ?? ""}` });
