/** The description of an appliance with one disk: an OVF envelope of version 1 (DMTF DSP0243), with the hardware that every virtual machine has. */

/** The facts about an appliance. */
export interface Appliance {
  /** For people, and the machine's id. */
  readonly name: string;
  /** The file of the disk, and its bytes. */
  readonly file: string;
  readonly fileSize: number;
  /** Bytes of the disk, and those of them that are data. */
  readonly capacity: number;
  /** MiB of memory. */
  readonly memory: number;
  readonly processors: number;
}

const SCHEMA = 'http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2';
const STREAM = 'http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized';

const escaped = (value: string): string =>
  value
    // XML has no place for control characters, and none for halves of letters.
    .replace(/[\p{Cc}\p{Cs}]/gu, '_')
    .replace(/[&<>"]/g, (letter) => `&#${letter.codePointAt(0)};`);

/** An item of the hardware: elements by name, in the order of the alphabet, as the schema wants them. */
const item = (elements: Readonly<Record<string, string | number>>): string =>
  `      <Item>\n${Object.entries(elements)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `        <rasd:${name}>${value}</rasd:${name}>\n`)
    .join('')}      </Item>\n`;

/** The text. */
export function ovfText({ name, file, fileSize, capacity, memory, processors }: Appliance): string {
  const [id, href] = [escaped(name), escaped(file)];
  return `<?xml version="1.0" encoding="UTF-8"?>
<Envelope ovf:version="1.0" xml:lang="en-US" xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="${SCHEMA}/CIM_ResourceAllocationSettingData" xmlns:vssd="${SCHEMA}/CIM_VirtualSystemSettingData" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <References>
    <File ovf:href="${href}" ovf:id="file1" ovf:size="${fileSize}"/>
  </References>
  <DiskSection>
    <Info>The disk of the virtual machine</Info>
    <Disk ovf:capacity="${capacity}" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="${STREAM}"/>
  </DiskSection>
  <VirtualSystem ovf:id="${id}">
    <Info>A virtual machine</Info>
    <Name>${id}</Name>
    <OperatingSystemSection ovf:id="1">
      <Info>The operating system in the virtual machine</Info>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>The hardware of the virtual machine</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>${id}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-07</vssd:VirtualSystemType>
      </System>
${item({ AllocationUnits: 'hertz * 10^6', Description: 'Number of virtual CPUs', ElementName: `${processors} virtual CPU(s)`, InstanceID: 1, ResourceType: 3, VirtualQuantity: processors })}${item(
  {
    AllocationUnits: 'byte * 2^20',
    Description: 'Memory size',
    ElementName: `${memory}MB of memory`,
    InstanceID: 2,
    ResourceType: 4,
    VirtualQuantity: memory,
  },
)}${item({ Address: 0, Description: 'IDE controller', ElementName: 'ideController0', InstanceID: 3, ResourceSubType: 'PIIX4', ResourceType: 5 })}${item(
  { AddressOnParent: 0, ElementName: 'disk1', HostResource: 'ovf:/disk/vmdisk1', InstanceID: 4, Parent: 3, ResourceType: 17 },
)}    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
`;
}
