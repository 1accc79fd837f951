/** Access control: the Host header against DNS rebinding, a bearer key, and other origins only if they are named. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import { option } from '../wording';
import { ApiError } from './errors';

export interface GuardOptions {
  /** Every request except those for `/health` and the page's files needs it as `Authorization: Bearer KEY`. */
  key?: string | undefined;
  /** Names by which the server may be addressed, besides those of the loopback interface; any, if there is a key and none is named. */
  hosts?: readonly string[] | undefined;
  /** Origins whose pages may make requests. Default: only its own. */
  origins?: readonly string[] | undefined;
}

/** Whether only this machine can reach a server that listens there. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

export class Guard {
  readonly #key: Buffer | undefined;
  readonly #hosts: ReadonlySet<string> | undefined;
  readonly #origins: ReadonlySet<string>;

  constructor({ key, hosts = [], origins = [] }: GuardOptions) {
    this.#key = key === undefined ? undefined : digest(key);
    this.#hosts =
      key !== undefined && hosts.length === 0 ? undefined : new Set(hosts.map((host) => host.toLowerCase()));
    this.#origins = new Set(origins);
  }

  /** @throws ApiError 403 if the server is addressed by a name that is not its own. */
  checkHost(request: IncomingMessage): void {
    const name = hostName(request.headers.host ?? '');
    if (this.#hosts === undefined || isLoopback(name) || this.#hosts.has(name)) return;
    throw new ApiError(403, `This server is not known by that name; ${option('allowHost')} adds one.`, {
      code: 'host_not_allowed',
    });
  }

  /** Allows pages of the named origins; returns whether that has answered the request. */
  answerPreflight(request: IncomingMessage, response: ServerResponse): boolean {
    const { origin } = request.headers;
    if (origin === undefined || !this.#origins.has(origin)) return false;
    response.setHeader('Access-Control-Allow-Origin', origin);
    response.setHeader('Vary', 'Origin');
    if (request.method !== 'OPTIONS') return false;
    response.setHeader('Access-Control-Allow-Methods', 'GET, POST');
    response.setHeader('Access-Control-Allow-Headers', 'Authorization, Content-Type');
    response.writeHead(204).end();
    return true;
  }

  /** @throws ApiError 401 without the key. Both are hashed, so that the comparison reveals nothing about their lengths. */
  checkKey(request: IncomingMessage): void {
    if (this.#key === undefined) return;
    const given = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1] ?? '';
    if (timingSafeEqual(digest(given), this.#key)) return;
    throw new ApiError(401, 'A key is required: Authorization: Bearer KEY.', { code: 'invalid_api_key' });
  }
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** `[::1]:8080` is `::1`, `Example.org:80` is `example.org`. */
function hostName(header: string): string {
  const bracketed = /^\[([^\]]*)\]/.exec(header);
  return (bracketed ? (bracketed[1] as string) : header.replace(/:\d*$/, '')).toLowerCase();
}
