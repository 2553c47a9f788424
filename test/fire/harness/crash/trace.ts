// The file calls of a process, as recorder.c has written them down, told as changes of inodes and names: what a file
// system has to keep, whichever path or descriptor the process used.

import { dirname } from 'node:path';

/** The numbers of recorder.c. */
const Kind = { open: 1, write: 2, truncate: 3, sync: 4, rename: 5, unlink: 6, makeDirectory: 7, mark: 8 } as const;
const HEADER_BYTES = 24;
const O_CREAT = 0o100;
const O_TRUNC = 0o1000;

/** One step of a process. Inodes are numbered as they come up. */
export type Step =
  | { readonly kind: 'write'; readonly inode: number; readonly offset: number; readonly bytes: Buffer }
  | { readonly kind: 'truncate'; readonly inode: number; readonly size: number }
  | { readonly kind: 'sync'; readonly inode: number }
  /** A name of a directory now leads to an inode; the name that it had before, if any, is gone in the same moment. */
  | { readonly kind: 'link'; readonly path: string; readonly inode: number; readonly from: string | undefined }
  | { readonly kind: 'unlink'; readonly path: string; readonly inode: number }
  | { readonly kind: 'sync-directory'; readonly path: string }
  /** The process has said something. */
  | { readonly kind: 'mark'; readonly text: string };

/** Reads a whole trace of a process that began with an empty directory. Throws if it is no such trace. */
export function readTrace(bytes: Buffer, directory: string): Step[] {
  const steps: Step[] = [];
  const names = new Map<string, number>();
  const directories = new Set([directory, dirname(directory)]);
  const opened = new Map<number, { path: string; inode: number | undefined }>();
  let inodes = 0;
  let at = 0;
  while (at < bytes.length) {
    const kind = bytes.readUInt32LE(at);
    const descriptor = bytes.readInt32LE(at + 4);
    const offset = Number(bytes.readBigUInt64LE(at + 8));
    const pathEnd = at + HEADER_BYTES + bytes.readUInt32LE(at + 16);
    const end = pathEnd + bytes.readUInt32LE(at + 20);
    const path = bytes.toString('utf8', at + HEADER_BYTES, pathEnd);
    const data = bytes.subarray(pathEnd, end);
    at = end;
    const file = opened.get(descriptor);
    const inodeOf = (): number => {
      if (file?.inode === undefined) throw new Error(`Descriptor ${descriptor} is no file of the trace`);
      return file.inode;
    };
    switch (kind) {
      case Kind.open: {
        let inode = names.get(path);
        if (inode === undefined && !directories.has(path)) {
          if ((offset & O_CREAT) === 0) throw new Error(`${path} is opened, and was never made`);
          inode = inodes++;
          names.set(path, inode);
          steps.push({ kind: 'link', path, inode, from: undefined });
        } else if (inode !== undefined && (offset & O_TRUNC) !== 0) steps.push({ kind: 'truncate', inode, size: 0 });
        opened.set(descriptor, { path, inode });
        break;
      }
      case Kind.write:
        steps.push({ kind: 'write', inode: inodeOf(), offset, bytes: data });
        break;
      case Kind.truncate:
        steps.push({ kind: 'truncate', inode: inodeOf(), size: offset });
        break;
      case Kind.sync:
        if (file === undefined) throw new Error(`Descriptor ${descriptor} was never opened`);
        if (file.inode === undefined) steps.push({ kind: 'sync-directory', path: file.path });
        else steps.push({ kind: 'sync', inode: file.inode });
        break;
      case Kind.rename: {
        const to = data.toString();
        const inode = names.get(path);
        if (inode === undefined) throw new Error(`${path} is renamed, and was never made`);
        names.delete(path);
        names.set(to, inode);
        steps.push({ kind: 'link', path: to, inode, from: path });
        break;
      }
      case Kind.unlink: {
        const inode = names.get(path);
        if (inode === undefined) throw new Error(`${path} is removed, and was never made`);
        names.delete(path);
        steps.push({ kind: 'unlink', path, inode });
        break;
      }
      case Kind.makeDirectory:
        directories.add(path);
        break;
      case Kind.mark:
        steps.push({ kind: 'mark', text: path });
        break;
      default:
        throw new Error(`A step of an unknown kind ${kind} at ${at}`);
    }
  }
  return steps;
}
