/** Disks as sockdrives, for DOSBox-X of js-dos (entry tabdisk/sockdrive). */
export {
  type Sockdrive,
  type SockdriveDisks,
  type SockdriveDrive,
  type SockdriveInfo,
  type SockdriveOptions,
  sockdrive,
} from './sockdrive-disk.ts';
