/**
 * The one owner of the access token.
 *
 * The access token lives in memory only; the refresh token is in a cookie that no script
 * can read. A token is renewed shortly before it ends, and once when the controller
 * refuses it; whoever asks meanwhile waits for that one renewal. Tabs take turns by a lock,
 * and tell each other what they got.
 */

export interface Account {
  id: string;
  name: string;
  role: string;
}

export interface Session {
  accessToken: string;
  /** By this browser's clock, in milliseconds. */
  expiresAt: number;
  account: Account;
}

/** Thrown where there is no session any more: one has to sign in. */
export class SignedOut extends Error {
  override name = "SignedOut";
}

export type Message = { kind: "session"; session: Session } | { kind: "ended" };

/** What the manager needs of the world; tests bring their own. */
export interface World {
  /** Asks the controller for a new session; throws `SignedOut` where there is none. */
  refresh: () => Promise<Session>;
  now: () => number;
  /** Runs `work` while no other tab does. */
  exclusively: <T>(work: () => Promise<T>) => Promise<T>;
  /** Tells the other tabs. */
  tell: (message: Message) => void;
  /** Listens to the other tabs. */
  listen: (heard: (message: Message) => void) => void;
}

/** A token is renewed when less than this is left of it. */
export const MARGIN_MS = 60_000;

export class TokenManager {
  #session: Session | null = null;
  #renewing: Promise<Session> | null = null;
  /** Grows with each end: a renewal that began before an end gives nothing. */
  #ends = 0;
  readonly #world: World;
  readonly #changed: (session: Session | null) => void;

  constructor(world: World, changed: (session: Session | null) => void) {
    this.#world = world;
    this.#changed = changed;
    world.listen((message) => {
      if (message.kind === "ended") this.#end();
      else this.#take(message.session);
    });
  }

  get session(): Session | null {
    return this.#session;
  }

  /** A token that is good for a while. */
  async token(): Promise<string> {
    const session = this.#session;
    if (session && this.#isGood(session)) return session.accessToken;
    return (await this.#renew(session?.accessToken)).accessToken;
  }

  /** Another token than `refused`, which the controller did not take. */
  async tokenAfter(refused: string): Promise<string> {
    const session = this.#session;
    if (session && session.accessToken !== refused) return session.accessToken;
    return (await this.#renew(refused)).accessToken;
  }

  /** Goes on with the session that the cookie has, if it has one. */
  async resume(): Promise<Session> {
    return this.#session ?? (await this.#renew(undefined));
  }

  /** Begins a session that somebody has just signed in to. */
  begin(session: Session): void {
    this.#take(session);
    this.#world.tell({ kind: "session", session });
  }

  /** Ends the session in all tabs. */
  end(): void {
    this.#end();
    this.#world.tell({ kind: "ended" });
  }

  #isGood(session: Session): boolean {
    return session.expiresAt - this.#world.now() > MARGIN_MS;
  }

  #take(session: Session): void {
    this.#session = session;
    this.#changed(session);
  }

  #end(): void {
    this.#ends += 1;
    this.#session = null;
    this.#changed(null);
  }

  #renew(old: string | undefined): Promise<Session> {
    this.#renewing ??= this.#renewOnce(old).finally(() => {
      this.#renewing = null;
    });
    return this.#renewing;
  }

  async #renewOnce(old: string | undefined): Promise<Session> {
    const ends = this.#ends;
    try {
      return await this.#world.exclusively(async () => {
        if (this.#ends !== ends) throw new SignedOut("the session has ended");
        // Another tab may have renewed it while this one waited for its turn.
        const present = this.#session;
        if (present && present.accessToken !== old && this.#isGood(present)) return present;
        const session = await this.#world.refresh();
        if (this.#ends !== ends) throw new SignedOut("the session has ended");
        this.#take(session);
        this.#world.tell({ kind: "session", session });
        return session;
      });
    } catch (error) {
      // Anything else, such as a controller that is away, ends no session.
      if (error instanceof SignedOut && this.#ends === ends) this.end();
      throw error;
    }
  }
}
