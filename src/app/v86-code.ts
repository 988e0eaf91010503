/** v86: its code, and its WebAssembly, which is loaded and compiled here, since v86 waits for ever if that cannot be loaded. */
import type { V86Options } from 'v86';
import wasmAddress from 'v86/build/v86.wasm?url';
import { DiskError } from '../index.ts';
import { loadServed } from './served.ts';

const MAGIC = [0x00, 0x61, 0x73, 0x6d];

/** The code for a machine. */
export interface V86Code {
  readonly V86: typeof import('v86').V86;
  readonly wasm: NonNullable<V86Options['wasm_fn']>;
}

/** Loads both. Throws `io` of the field `module` or `file` if one cannot be loaded, `unsupported` in a browser that runs no WebAssembly. */
export async function loadV86(): Promise<V86Code> {
  if (typeof WebAssembly === 'undefined')
    throw new DiskError(
      'unsupported',
      'This browser runs no WebAssembly, and no machine without it: export the image, and run it in another browser',
    );
  const [{ V86 }, module] = await Promise.all([loadCode(), loadModule()]);
  return { V86, wasm: async (imports) => (await WebAssembly.instantiate(module, imports)).exports };
}

async function loadCode(): Promise<typeof import('v86')> {
  try {
    return await import('v86');
  } catch (cause) {
    throw new DiskError(
      'io',
      'The emulator v86, a part of this page, could not be loaded: the network is gone, or there is a newer version of the page',
      {
        field: 'module',
        cause,
      },
    );
  }
}

async function loadModule(): Promise<WebAssembly.Module> {
  const label = 'The emulator (v86.wasm)';
  const bytes = await loadServed({ label, address: new URL(wasmAddress, document.baseURI).href, start: MAGIC });
  try {
    return await WebAssembly.compile(bytes);
  } catch (cause) {
    throw new DiskError('io', `${label} cannot be compiled: it was damaged on its way, or this browser is too old for it`, { field: 'file', cause });
  }
}
