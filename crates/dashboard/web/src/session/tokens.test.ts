import { describe, expect, it } from "vitest";

import { MARGIN_MS, type Message, type Session, SignedOut, TokenManager, type World } from "./tokens";

const LIFE_MS = 3_600_000;

/** A controller, a clock and a lock that all tabs of a test share. */
class Browser {
  now = 1_000_000;
  refreshes = 0;
  fault: Error | null = null;
  gate: Promise<void> = Promise.resolve();
  #turn: Promise<unknown> = Promise.resolve();
  #listeners: ((message: Message) => void)[] = [];

  session(name = "ann"): Session {
    this.refreshes += 1;
    return {
      accessToken: `token-${this.refreshes}`,
      expiresAt: this.now + LIFE_MS,
      account: { id: "1", name, role: "admin" },
    };
  }

  tab(): { tokens: TokenManager; seen: (string | null)[] } {
    const seen: (string | null)[] = [];
    let own: ((message: Message) => void) | undefined;
    const world: World = {
      refresh: async () => {
        await this.gate;
        if (this.fault) throw this.fault;
        return this.session();
      },
      now: () => this.now,
      exclusively: (work) => {
        const turn = this.#turn.then(work, work);
        this.#turn = turn.catch(() => undefined);
        return turn;
      },
      tell: (message) => {
        for (const listener of this.#listeners) if (listener !== own) listener(message);
      },
      listen: (heard) => {
        own = heard;
        this.#listeners.push(heard);
      },
    };
    return {
      tokens: new TokenManager(world, (session) => seen.push(session?.accessToken ?? null)),
      seen,
    };
  }
}

describe("token manager", () => {
  it("asks for a session once, however many wait for it", async () => {
    const browser = new Browser();
    const { tokens } = browser.tab();
    const all = await Promise.all([tokens.token(), tokens.token(), tokens.resume(), tokens.token()]);
    expect(browser.refreshes).toBe(1);
    expect(all[0]).toBe("token-1");
    expect(await tokens.token()).toBe("token-1");
  });

  it("renews a token before it ends", async () => {
    const browser = new Browser();
    const { tokens } = browser.tab();
    await tokens.token();
    browser.now += LIFE_MS - MARGIN_MS - 1;
    expect(await tokens.token()).toBe("token-1");
    browser.now += 1;
    expect(await tokens.token()).toBe("token-2");
  });

  it("renews once for all requests that were refused, and not for one that comes late", async () => {
    const browser = new Browser();
    const { tokens } = browser.tab();
    const refused = await tokens.token();
    const renewed = await Promise.all([tokens.tokenAfter(refused), tokens.tokenAfter(refused)]);
    expect(renewed).toEqual(["token-2", "token-2"]);
    expect(await tokens.tokenAfter(refused)).toBe("token-2");
    expect(browser.refreshes).toBe(2);
  });

  it("lets tabs that renew at once use one renewal", async () => {
    const browser = new Browser();
    const [one, two] = [browser.tab(), browser.tab()];
    expect(await Promise.all([one.tokens.token(), two.tokens.token()])).toEqual(["token-1", "token-1"]);
    expect(browser.refreshes).toBe(1);
  });

  it("ends in all tabs when the controller knows no session", async () => {
    const browser = new Browser();
    const [one, two] = [browser.tab(), browser.tab()];
    await one.tokens.token();
    browser.fault = new SignedOut("no");
    await expect(one.tokens.tokenAfter("token-1")).rejects.toBeInstanceOf(SignedOut);
    expect(one.tokens.session).toBeNull();
    expect(two.tokens.session).toBeNull();
    expect(two.seen).toEqual(["token-1", null]);
  });

  it("keeps the session while the controller is away", async () => {
    const browser = new Browser();
    const { tokens } = browser.tab();
    await tokens.token();
    browser.fault = new TypeError("network");
    await expect(tokens.tokenAfter("token-1")).rejects.toBeInstanceOf(TypeError);
    expect(tokens.session?.accessToken).toBe("token-1");
    browser.fault = null;
    expect(await tokens.tokenAfter("token-1")).toBe("token-2");
  });

  it("signs out in all tabs, also in the midst of a renewal", async () => {
    const browser = new Browser();
    const [one, two] = [browser.tab(), browser.tab()];
    await one.tokens.token();
    let open = (): void => undefined;
    browser.gate = new Promise((resolve) => {
      open = resolve;
    });
    const renewal = two.tokens.tokenAfter("token-1");
    one.tokens.end();
    open();
    await expect(renewal).rejects.toBeInstanceOf(SignedOut);
    expect([one.tokens.session, two.tokens.session]).toEqual([null, null]);
  });

  it("takes over the session that somebody signs in to in another tab", async () => {
    const browser = new Browser();
    const [one, two] = [browser.tab(), browser.tab()];
    one.tokens.begin(browser.session("bob"));
    expect(await two.tokens.token()).toBe("token-1");
    expect(two.tokens.session?.account.name).toBe("bob");
  });
});
